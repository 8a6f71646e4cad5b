"""Recognition of PL/pgSQL trigger bodies whose effect on a row can be proved from their text.

    BEGIN
        NEW.<column> := <expression>;    -- any number of these, with := or =
        RETURN NEW;
    END;

Such a body changes the columns that it names and no others: an assignment ends at the next semicolon outside of
strings, quoted names and comments, and no expression can change a variable other than the one that is assigned.
Every other body (declarations, labels, IF, SELECT INTO, EXECUTE, exception handlers, ...) proves nothing.

A text that servers of different versions, encodings or settings may split into different tokens proves nothing either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Functions of pg_catalog that return the current time. _CLOCK adds the keywords, which do not depend on search_path.
CLOCKS = ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp")
_CLOCK = re.compile(
    rf"(?P<qualified>pg_catalog \. )?(?P<function>{'|'.join(CLOCKS)}) \( \)"
    r"|(?:current_timestamp|localtimestamp)(?: \( [0-9] \))?"
)
_PART = re.compile(
    r"""
      (?P<space>    [ \t\n\r\f]+ | --[^\n\r]* )                 # a carriage return alone ends a comment
    | (?P<nested>   /\* )
    | (?P<escaped>  [eE] ' (?: [^'\\] | \\. | '' )* ' )
    | (?P<unicode>  [uU] & ['"] )
    | (?P<word>     [^\W\d] [\w$]* )
    | (?P<quoted>   " (?: [^"] | "" )+ " )
    | (?P<string>   ' (?: [^'] | '' )* ' )
    | (?P<dollar>   \$ (?P<tag> (?: [^\W\d] \w* )? ) \$ .*? \$ (?P=tag) \$ )
    | (?P<number>   [0-9]+ (?: \.[0-9]+ )? (?! [\w.$] ) )
    | (?P<symbol>   := | [-+*/<>=~!@\#%^&|`?()\[\].,:;] )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[^\W\d][\w$]*")
_COMMENT_MARK = re.compile(r"/\*|\*/")
_LONGEST_NAME = 63  # bytes; the server truncates longer names, and may then use another column


@dataclass(frozen=True)
class Assignment:
    """The statement ``NEW.<column> := <value>``. The value is normalized (:func:`normalized`)."""

    column: str
    value: str


def assignments(body: str) -> tuple[Assignment, ...] | None:
    """Return the assignments of a body of the form above, in order; None for every other body.

    >>> assignments('begin new."Total" = 2 * NEW.net; /* always */ NEW.at := NOW(); return new; end')
    (Assignment(column='Total', value='2 * new . net'), Assignment(column='at', value='now ( )'))
    >>> assignments("BEGIN NEW.v := coalesce(NEW.v, '--'); NEW.at := NEW.sent_at; RETURN NEW; END")[1].value
    'new . sent_at'
    >>> assignments("BEGIN IF NEW.at IS NULL THEN NEW.at := now(); END IF; RETURN NEW; END")
    """
    tokens = _tokens(body)
    if not tokens or tokens.pop(0) != "begin":
        return None
    found = []
    while _name(tokens[:1]) == "new":
        end = tokens.index(";") if ";" in tokens else 0
        column = _name(tokens[2:3])
        if end < 5 or tokens[1] != "." or column is None or tokens[3] not in (":=", "="):
            return None
        found.append(Assignment(column, " ".join(tokens[4:end])))
        del tokens[: end + 1]
    is_whole = tokens[:1] == ["return"] and _name(tokens[1:2]) == "new" and tokens[2:4] == [";", "end"]
    return tuple(found) if is_whole and tokens[4:] in ([], [";"]) else None


def normalized(expression: str) -> str | None:
    """Return the tokens of an expression, joined by single spaces: without comments, and with unquoted names in lower
    case. Return None when servers may split the text differently.

    >>> normalized("Current_Timestamp -- now")
    'current_timestamp'
    >>> normalized("/* /* */ */ NOW( )||$x$ -- $x$")
    'now ( ) | | $x$ -- $x$'
    """
    tokens = _tokens(expression)
    return None if tokens is None else " ".join(tokens)


def is_clock(expression: str, *, shadowed: bool = False) -> bool:
    """Return whether a normalized expression is exactly the current time: coalesce(new.at, now()) may be a time of the
    application, date_trunc('day', now()) is an earlier one. ``shadowed``: an unqualified name may mean a function
    outside of pg_catalog.

    >>> is_clock("now ( )"), is_clock("new . at")
    (True, False)
    >>> is_clock("now ( )", shadowed=True), is_clock("pg_catalog . now ( )", shadowed=True)
    (False, True)
    """
    found = _CLOCK.fullmatch(expression)
    return found is not None and not (shadowed and found["function"] and not found["qualified"])


def _tokens(text: str) -> list[str] | None:
    """Return the tokens without spaces and comments: unquoted names in lower case, all others as written. Return None
    when servers may split the text differently."""
    try:
        return list(_split(text))
    except ValueError:
        return None


def _split(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise ValueError(f"no token of PL/pgSQL at {place}")
        place = part.end()
        token = part.group()
        match part.lastgroup:
            case "nested":
                place = _end_of_comment(text, place)
            case "space":
                pass
            case "word":
                # The server folds ASCII letters, and in some encodings other letters too.
                folded = token.lower()
                if any(new != old and not old.isascii() for new, old in zip(folded, token, strict=True)):
                    raise ValueError(f"{token} may be folded or not")
                yield _measured(folded)
            case "quoted":
                yield _measured(token)
            case "string" if "\\" in token:
                raise ValueError("where the string ends depends on standard_conforming_strings")
            case "unicode":
                raise ValueError("names and strings of the form U& are not read")
            case _:
                yield token


def _measured(name: str) -> str:
    if len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"{name} is longer than a name may be")
    return name


def _end_of_comment(text: str, place: int) -> int:
    """Return the end of the comment whose ``/*`` stands before ``place``. Comments nest."""
    depth = 1
    while depth:
        mark = _COMMENT_MARK.search(text, place)
        if mark is None:
            raise ValueError("a comment is not closed")
        depth += 1 if mark.group() == "/*" else -1
        place = mark.end()
    return place


def _name(tokens: list[str]) -> str | None:
    """Return the first token as a name in the spelling of the catalogue; None when it is not a name."""
    for token in tokens:
        if token.startswith('"'):
            return token[1:-1].replace('""', '"')
        if _WORD.fullmatch(token):
            return token
    return None

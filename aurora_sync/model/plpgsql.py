"""The few bodies of PL/pgSQL trigger functions whose effect on a row can be proved from their text.

    BEGIN
        NEW.<column> := <expression>;    -- any number of these, with := or =
        RETURN NEW;
    END;

Such a body changes the columns that it names and no others: an assignment ends at the next semicolon outside of
strings, quoted names and comments, and no expression can change a variable other than the one that is assigned.
Every other body (declarations, labels, IF, SELECT INTO, EXECUTE, exception handlers, ...) proves nothing.

A text that servers of different versions, encodings or settings split into tokens differently is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Functions of pg_catalog that return the current time, and what returns it by the grammar, whatever the search_path.
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
_LONGEST_NAME = 63  # bytes; the server cuts longer names off, and may then mean another column


@dataclass(frozen=True)
class Assignment:
    """``NEW.<column> := <value>``. The value is as :func:`normalized` returns it."""

    column: str
    value: str


def assignments(body: str) -> tuple[Assignment, ...] | None:
    """The assignments of a body of the form above, in order; None for every other body.

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
    """The tokens with one space between them, without comments, and unquoted names in lower case. None where that
    cannot be told.

    >>> normalized("Current_Timestamp -- now")
    'current_timestamp'
    >>> normalized("/* /* */ */ NOW( )||$x$ -- $x$")
    'now ( ) | | $x$ -- $x$'
    """
    tokens = _tokens(expression)
    return None if tokens is None else " ".join(tokens)


def is_clock(expression: str, *, shadowed: bool = False) -> bool:
    """Whether a normalized expression is the current time and nothing else: coalesce(new.at, now()) may be the
    application's time, date_trunc('day', now()) an old one. ``shadowed``: an unqualified name may mean another
    function than that of pg_catalog.

    >>> is_clock("now ( )"), is_clock("new . at")
    (True, False)
    >>> is_clock("now ( )", shadowed=True), is_clock("pg_catalog . now ( )", shadowed=True)
    (False, True)
    """
    found = _CLOCK.fullmatch(expression)
    return found is not None and not (shadowed and found["function"] and not found["qualified"])


def _tokens(text: str) -> list[str] | None:
    """Without spaces and comments; unquoted names in lower case, everything else as it is written."""
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
                # The server folds ASCII letters, and in some encodings others.
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
    """Where the comment ends whose ``/*`` is before ``place``. Comments nest."""
    depth = 1
    while depth:
        mark = _COMMENT_MARK.search(text, place)
        if mark is None:
            raise ValueError("a comment is not closed")
        depth += 1 if mark.group() == "/*" else -1
        place = mark.end()
    return place


def _name(tokens: list[str]) -> str | None:
    """The name that a single token is, as the catalogue has it."""
    for token in tokens:
        if token.startswith('"'):
            return token[1:-1].replace('""', '"')
        if _WORD.fullmatch(token):
            return token
    return None

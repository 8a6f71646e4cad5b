"""Tests of plpgsql: which trigger bodies are recognized; strings and comments are not taken for code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_sync.model.plpgsql import Assignment, assignments, is_clock, normalized


def body(statements: str) -> str:
    return f"BEGIN {statements} RETURN NEW; END"


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN NEW.updated_at = now(); RETURN NEW; END;",
        "\nbegin\n    new.updated_at := now();\n    return new;\nend\n",
        '-- It\nBEGIN\r\n  NEW."updated_at" := Now( ); /* of /* the */ row */\r\n  RETURN NEW;\r\nEND; -- \'touch',
        'BEGIN "new".Updated_At := now(); RETURN "new"; END',
    ],
)
def test_usual_bodies_are_read(text: str) -> None:
    assert assignments(text) == (Assignment("updated_at", "now ( )"),)


def test_body_that_leaves_the_row_as_it_is_assigns_nothing() -> None:
    assert assignments("BEGIN RETURN NEW; END") == ()


@pytest.mark.parametrize(
    ("statements", "columns"),
    [
        ("NEW.v := coalesce(NEW.v, '--'); NEW.at := NEW.sent_at;", ["v", "at"]),
        ("NEW.v := $q$ /* $q$; NEW.at := NEW.sent_at; NEW.v := $$ */ $$;", ["v", "at", "v"]),
        ("NEW.v := E'\\'; --'; NEW.at := NEW.sent_at; NEW.v := E'--';", ["v", "at", "v"]),
        ('NEW.v := NEW."--"; NEW.at := NEW.sent_at;', ["v", "at"]),
        ("-- a carriage return ends it\rNEW.at := NEW.sent_at;\n", ["at"]),
        ("/* /* */ NEW.at := now(); */", []),
        ("NEW.v := 'NEW.at := now(); '';'; -- NEW.at := now();\n", ["v"]),
        ("NEW.v := f$x$; NEW.at := NEW.sent_at; NEW.v := f$x$;", ["v", "at", "v"]),
        ("NEW.v := (SELECT max(e) FROM e WHERE e.k = ANY(NEW.a[1:2]));", ["v"]),
        ('NEW.At := 1; NEW."At" := 2; NEW."a""t" := 3;', ["at", "At", 'a"t']),
        ("NEW.größe := 1.5;", ["größe"]),
    ],
)
def test_strings_comments_and_quoted_names_are_told_from_code(statements: str, columns: list[str]) -> None:
    found = assignments(body(statements))
    assert found is not None
    assert [assignment.column for assignment in found] == columns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RETURN NEW;",
        "<<touch>> BEGIN NEW.at := now(); RETURN NEW; END",
        "<<touch>> BEGIN NEW.at := now(); RETURN NEW; END touch",
        "#variable_conflict use_column\nBEGIN NEW.at := now(); RETURN NEW; END",
        "DECLARE r ALIAS FOR NEW; BEGIN NEW.at := now(); r := OLD; RETURN NEW; END",
        "BEGIN NEW.at := now(); RETURN NEW; EXCEPTION WHEN OTHERS THEN RETURN NEW; END",
        "BEGIN NEW.at := now(); RETURN OLD; END",
        "BEGIN NEW.at := now(); RETURN NULL; END",
        'BEGIN NEW.at := now(); RETURN "NEW"; END',
        "BEGIN NEW.at := now(); RETURN NEW; RETURN NEW; END",
        "BEGIN NEW.at := now(); END",
        "BEGIN NEW.at := now(); RETURN NEW; END; NEW.at := now();",
        *map(
            body,
            [
                "NEW := OLD;",
                '"new" := OLD;',
                '"NEW".at := now();',
                "OLD.at := now();",
                "NEW.at := ;",
                "NEW.at[1] := 1;",
                "NEW.at.x := 1;",
                "NEW.at now();",
                "at := now();",
                "SELECT OLD.at INTO NEW.at;",
                'SELECT * INTO "new" FROM t;',
                "FOR NEW IN SELECT * FROM t LOOP END LOOP;",
                "PERFORM 1;",
                "NULL;",
                "EXECUTE 'SELECT 1' INTO NEW.at;",
                "IF true THEN NEW.at := now(); END IF;",
                "BEGIN NEW.at := now(); END;",
                "NEW.at := now(); ASSERT true;",
            ],
        ),
        # Texts that servers may split into different tokens.
        body("NEW.v := '\\''; NEW.at := NEW.sent_at; NEW.v := '--';"),  # standard_conforming_strings
        body("NEW.v := E'a'\n'\\'; NEW.at := NEW.sent_at; --';"),  # the second line continues the E string
        body("NEW.v := U&'x'; NEW.at := now();"),
        body('U&"new" := OLD;'),
        body("NEW.v := 1e5$x$ ; NEW.at := NEW.sent_at; NEW.v := 1e5$x$;"),
        body("NEW.v := 1.e5$x$ ; NEW.at := NEW.sent_at; NEW.v := 1.e5$x$;"),
        body("NEW.É := now();"),  # folded in encodings that have one byte for it
        body(f"NEW.{'a' * 64} := now();"),  # truncated by the server
        body("NEW.\u00a0at := now();"),
        # Not closed.
        body("/* /* */ NEW.at := now();"),
        body("NEW.v := 'NEW.at := now();"),
        body("NEW.v := $a$ $b$;"),
    ],
)
def test_every_other_body_proves_nothing(text: str) -> None:
    assert assignments(text) is None


@pytest.mark.parametrize(
    ("expression", "qualified"),
    [
        ("now()", False),
        ("Statement_Timestamp( )", False),
        ("pg_catalog.now()", True),
        ("CURRENT_TIMESTAMP", True),
        ("current_timestamp (3)", True),
        ("LOCALTIMESTAMP", True),
    ],
)
def test_clock_is_recognised(expression: str, qualified: bool) -> None:
    text = normalized(expression)
    assert text is not None
    assert (is_clock(text), is_clock(text, shadowed=True)) == (True, qualified)


@pytest.mark.parametrize(
    "expression",
    [
        "now() - '1 day'",
        "public.now()",
        "now(1)",
        '"current_timestamp"',
        "'now()'",
        "current_date",
        "CURRENT_TIMESTAMP(x)",
    ],
)
def test_anything_else_is_no_clock(expression: str) -> None:
    assert not is_clock(normalized(expression) or "")


NAMES = st.sampled_from(["updated_at", "UPDATED_AT", '"updated_at"', "v", '"V;"'])
VALUES = st.sampled_from(["now()", "CURRENT_TIMESTAMP", "coalesce(NEW.v,'--;')", "$q$;'$q$||E'\\';'", 'NEW.";"'])
NOISE = st.lists(
    st.sampled_from([" ", "\t", "\n", "\r\n", "-- ;' $$ /*\n", "--\r", "/**/", "/* NEW.x := '; /* -- */ */"]),
    min_size=1,
).map("".join)


@given(st.lists(st.tuples(NAMES, VALUES)), st.booleans(), st.data())
def test_comments_and_spaces_change_nothing(pairs: list[tuple[str, str]], semicolon: bool, data: st.DataObject) -> None:
    tokens = ["BEGIN"]
    for name, value in pairs:
        tokens += ["NEW", ".", name, data.draw(st.sampled_from([":=", "="])), value, ";"]
    tokens += ["RETURN", "new", ";", "End", *([";"] if semicolon else [])]
    text = "".join(data.draw(NOISE) + token for token in tokens) + data.draw(NOISE)
    columns = [name[1:-1] if name.startswith('"') else name.lower() for name, _ in pairs]
    expected = [Assignment(column, normalized(value) or "") for column, (_, value) in zip(columns, pairs, strict=True)]
    assert assignments(text) == tuple(expected)


@pytest.mark.parametrize(
    "text",
    [
        r"BEGIN NEW.v := 'a\'; NEW.at := now(); RETURN NEW; END",  # the string may continue after the backslash
        r"BEGIN NEW.v := U&'\0041'; NEW.at := now(); RETURN NEW; END",
        r'BEGIN NEW.U&"\0061t" := now(); RETURN NEW; END',
        f'BEGIN NEW."{"a" * 64}" := now(); RETURN NEW; END',
        "BEGIN NEW.at := now(); RETURN NEW; END; x",
        "BEGIN NEW.at := now(); RETURN NEW; END x",
        "BEGIN NEW.at := now(); RETURN NEW, OLD; END",
        "BEGIN NEW[at := now(); RETURN NEW; END",
        "BEGIN NEW.at := now()",
    ],
)
def test_text_that_may_mean_something_else_proves_nothing(text: str) -> None:
    assert assignments(text) is None

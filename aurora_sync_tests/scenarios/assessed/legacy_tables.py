"""Tables as legacy databases have them. Each names the strategy that is right for it now, the one that would be better,
and a trap: a strategy that must be refused or ranked lower, with words of the reason.

Tables have several sizes, because the rules do: the tests scale down SMALL, MODERATE and LARGE of rules.py.
"""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

SMALL, MODERATE, LARGE = 20_000, 400_000, 900_000  # bytes
MID, BIG = 600, 9_000  # rows of about 110 bytes
_PAD = "repeat('x', 60)"
_FILL = "INSERT INTO {t} ({columns}) SELECT {values} FROM generate_series(1, {rows}) g"
_STAMP = """
CREATE FUNCTION {t}_stamp() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN {body} RETURN NEW; END$$
"""
ALWAYS = "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"


@dataclass(frozen=True)
class Legacy:
    """One table. ``writes`` are the application's statements: ``{t}`` is the table, ``{n}`` a growing number."""

    name: str
    now: str | None
    create: tuple[str, ...]
    writes: tuple[str, ...] = ()
    best: str | None = None  # None: the strategy that is right now
    refuses: tuple[str, str] | None = None  # a strategy, and words of the reason against it
    notes: str = ""

    def statements(self) -> tuple[str, ...]:
        """Return ``writes`` with the name of the table; ``{n}`` stays."""
        return tuple(statement.replace("{t}", _t(self.name)) for statement in self.writes)


def _t(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(
    name: str,
    now: str | None,
    columns: str,
    fill: str,
    *,
    rows: int = MID,
    after: tuple[str, ...] = (),
    done: tuple[str, ...] = (),
    **more: object,
) -> Legacy:
    """Return a table with ``columns``, filled by ``fill`` (columns = expressions of g); further statements run
    afterwards."""
    t = _t(name)
    into, _, values = fill.partition("=")
    create = (
        f"CREATE TABLE {t} ({columns})",
        *(statement.format(t=t) for statement in after),
        _FILL.format(t=t, columns=into, values=values, rows=rows),
        *(statement.format(t=t) for statement in done),
    )
    return Legacy(name, now, create, **more)  # type: ignore[arg-type]


_KEYED, _KEYED_FILL = "id int PRIMARY KEY, v text, pad text", f"id, v, pad = g, 'v', {_PAD}"
_PLAIN, _PLAIN_FILL = "v text, pad text", f"v, pad = 'v' || g, {_PAD}"
_UPDATE = "UPDATE {t} SET v = 'u{n}' WHERE id % 40 = {n} % 40"
_DELETE = "DELETE FROM {t} WHERE id = {n} % 1000"
_APPEND = f"INSERT INTO {{t}} (v, pad) VALUES ('a{{n}}', {_PAD})"
_NUMBERED = f"INSERT INTO {{t}} (id, v, pad) VALUES (100000 + {{n}}, 'i', {_PAD})"
_ONCE = "UPDATE {t} SET v = 'was' WHERE id <= 20"
_GONE = "DELETE FROM {t} WHERE id <= 20"


def _stamped(name: str, now: str, when: str, body: str, trap: str, *, indexed: bool = True, rows: int = MID) -> Legacy:
    """Return a table with an updated_at, and a trigger that may maintain it."""
    function = _STAMP.replace("{body}", body).replace("{t}_stamp", f"{name}_stamp")
    trigger = f"CREATE TRIGGER stamp {when} ON {{t}} FOR EACH ROW EXECUTE FUNCTION {name}_stamp()"
    return _table(
        name,
        now,
        "id int PRIMARY KEY, v text, pad text, updated_at timestamptz DEFAULT now()",
        _KEYED_FILL,
        rows=rows,
        after=(function, trigger, *(("CREATE INDEX ON {t} (updated_at)",) if indexed else ())),
        done=(_ONCE,),
        writes=(_UPDATE, _NUMBERED),
        refuses=("timestamp", trap) if trap else None,
    )


_KEEP = "NEW.updated_at := clock_timestamp();"
_BOTH = "BEFORE INSERT OR UPDATE"
_UNKEPT = "no BEFORE INSERT OR UPDATE row trigger sets updated_at"

TABLES = (
    # Small tables, which are read whole.
    _table(
        "countries", "full_snapshot", _KEYED, _KEYED_FILL, rows=30, done=(_ONCE, _GONE), writes=(_UPDATE, _NUMBERED)
    ),
    _table("settings", "full_snapshot", _PLAIN, _PLAIN_FILL, rows=20, writes=(_APPEND, "UPDATE {t} SET v = 'u{n}'")),
    _table("empty_queue", "full_snapshot", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, rows=0, writes=(_APPEND,)),
    # Tables that are updated in place.
    _table(
        "customers",
        "xmin",
        _KEYED,
        _KEYED_FILL,
        done=(_ONCE,),
        writes=(_UPDATE, _NUMBERED),
        refuses=("integer", "rows were updated"),
    ),
    _table(
        "baskets", "xmin", _KEYED, _KEYED_FILL, best="logical", done=(_ONCE, _GONE), writes=(_UPDATE, _NUMBERED, _DELETE)
    ),
    _table(
        "positions",
        "xmin",
        "a int, b text, v text, pad text, PRIMARY KEY (a, b)",
        f"a, b, v, pad = g, 'b', 'v', {_PAD}",
        done=("UPDATE {t} SET v = 'was' WHERE a < 20",),
        writes=("UPDATE {t} SET v = 'u{n}' WHERE a % 40 = {n} % 40",),
    ),
    _table(
        'o"r\'der s', "xmin", _KEYED, _KEYED_FILL, done=(_ONCE,), writes=(_UPDATE, _NUMBERED)
    ),
    _table(
        "ledger", "xmin", _KEYED, _KEYED_FILL, rows=BIG, done=("UPDATE {t} SET v = 'was' WHERE id < 20",),
        best="logical", writes=(_UPDATE, _NUMBERED),
    ),
    _table(
        "tickets", "xmin", _KEYED, _KEYED_FILL, rows=BIG, best="logical", done=(_ONCE, _GONE),
        writes=(_UPDATE, _NUMBERED, _DELETE), refuses=("full_snapshot", "every run reads and moves all"),
    ),
    # Insert-only tables with a number, which may or may not come in order.
    _table(
        "events", "integer", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, writes=(_APPEND,),
    ),
    _table(
        "events_huge", "integer", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, rows=BIG, writes=(_APPEND,),
    ),
    _table(
        "events_cached", "xmin", "id bigint GENERATED ALWAYS AS IDENTITY (CACHE 20) PRIMARY KEY, v text, pad text",
        _PLAIN_FILL, writes=(_APPEND,), refuses=("integer", "CACHE 20"), notes="CACHE 20",
    ),
    _table(
        "events_cycling", "xmin",
        "id int GENERATED ALWAYS AS IDENTITY (MAXVALUE 100000 CYCLE) PRIMARY KEY, v text, pad text",
        _PLAIN_FILL, writes=(_APPEND,), refuses=("integer", "cycles or has a negative increment"),
    ),
    _table(
        "events_falling", "xmin",
        "id int GENERATED ALWAYS AS IDENTITY (INCREMENT -1 MINVALUE -100000) PRIMARY KEY, v text, pad text",
        _PLAIN_FILL, writes=(_APPEND,), refuses=("integer", "cycles or has a negative increment"),
    ),
    _table(
        "events_serial", "xmin", "id serial PRIMARY KEY, v text, pad text", _PLAIN_FILL, writes=(_APPEND,),
        refuses=("integer", "an application may call nextval() itself"),
    ),
    _table(
        "events_numbered", "xmin", _KEYED, _KEYED_FILL, writes=(_NUMBERED,),
        refuses=("integer", "its numbers are made by the application"),
    ),
    _table(
        "events_corrected", "xmin", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, done=(_ONCE,),
        writes=(_APPEND, _UPDATE), refuses=("integer", "20 rows were updated"),
    ),
    _table(
        "events_renumbered", "xmin", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, writes=(_APPEND,),
        after=(
            "CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.id := NEW.id; RETURN NEW; END$$",
            "CREATE TRIGGER renumber BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION renumber()",
        ),
        refuses=("integer", "a trigger of the table may set id"),
    ),
    _table(
        "events_by_uuid", "xmin", "id uuid PRIMARY KEY DEFAULT gen_random_uuid(), v text, pad text", _PLAIN_FILL,
        writes=(_APPEND,),
    ),
    Legacy(
        "events_by_month", "xmin",
        (
            "CREATE TABLE events_by_month (id bigint GENERATED ALWAYS AS IDENTITY, v text, pad text, PRIMARY KEY (id))"
            " PARTITION BY RANGE (id)",
            "CREATE TABLE events_1 PARTITION OF events_by_month FOR VALUES FROM (MINVALUE) TO (300)",
            "CREATE TABLE events_2 PARTITION OF events_by_month FOR VALUES FROM (300) TO (MAXVALUE)",
            _FILL.format(t="events_by_month", columns="v, pad", values=f"'v', {_PAD}", rows=MID),
        ),
        (_APPEND,),
        refuses=("integer", "a direct insert into a partition may not use the default"), notes="2 partitions",
    ),
    _table(
        "readings", "integer", f"{ALWAYS}, v text, pad text", _PLAIN_FILL, done=(_GONE,), best="integer",
        writes=(_APPEND, _DELETE),
    ),
    # Tables without a key.
    _table("audit_trail", "append_only", _PLAIN, _PLAIN_FILL, writes=(_APPEND,)),
    _table(
        "audit_edited", "full_snapshot", _PLAIN, _PLAIN_FILL, done=("UPDATE {t} SET v = 'was' WHERE v < 'v2'",),
        writes=("UPDATE {t} SET v = 'u{n}' WHERE v LIKE '%{n}'",), refuses=("append_only", "rows were updated"),
    ),
    _table(
        "audit_pruned", "full_snapshot", _PLAIN, _PLAIN_FILL, done=("DELETE FROM {t} WHERE v < 'v2'",),
        writes=(_APPEND, "DELETE FROM {t} WHERE v LIKE '%9{n}'"), refuses=("append_only", "rows were deleted"),
    ),
    _table(
        "deferrable", "full_snapshot", "id int PRIMARY KEY DEFERRABLE, v text, pad text", _KEYED_FILL, done=(_ONCE,),
        writes=(_UPDATE,), notes="the primary key is deferrable",
    ),
    _table(
        "named_by_code", "xmin", "code int NOT NULL UNIQUE, v text, pad text", f"code, v, pad = g, 'v', {_PAD}",
        done=("UPDATE {t} SET v = 'was' WHERE code < 20",), writes=("UPDATE {t} SET v = 'u{n}' WHERE code % 40 = {n} % 40",),
    ),
    _table(
        "nullable_code", "full_snapshot", "code int UNIQUE, v text, pad text", f"code, v, pad = g, 'v', {_PAD}",
        done=("UPDATE {t} SET v = 'was' WHERE code < 20",), writes=("UPDATE {t} SET v = 'u{n}' WHERE code % 40 = {n} % 40",),
    ),
    _table(
        "partly_unique", "full_snapshot", "code int NOT NULL, v text, pad text", f"code, v, pad = g, 'v', {_PAD}",
        after=("CREATE UNIQUE INDEX ON {t} (code) WHERE v <> 'x'",), done=("UPDATE {t} SET v = 'was' WHERE code < 20",),
        writes=("UPDATE {t} SET v = 'u{n}' WHERE code % 40 = {n} % 40",),
    ),
    # Tables with a time of the last change, by who maintains it.
    _stamped("invoices", "timestamp", _BOTH, _KEEP, ""),
    _stamped("invoices_huge", "timestamp", _BOTH, _KEEP, "", rows=BIG),
    _stamped("invoices_unindexed", "xmin", _BOTH, _KEEP, "", indexed=False),
    _stamped("invoices_updated", "xmin", "BEFORE UPDATE", _KEEP, _UNKEPT),
    _stamped("invoices_lazy", "xmin", _BOTH, "NEW.updated_at := coalesce(NEW.updated_at, now());", _UNKEPT),
    _stamped("invoices_of_days", "xmin", _BOTH, "NEW.updated_at := date_trunc('day', now());", _UNKEPT),
    _stamped("invoices_branched", "xmin", _BOTH, f"IF NEW.v <> 'x' THEN {_KEEP} END IF;", _UNKEPT),
    _stamped("invoices_after", "xmin", "AFTER INSERT OR UPDATE", _KEEP, _UNKEPT),
    _stamped("invoices_of_v", "xmin", "BEFORE INSERT OR UPDATE OF v", _KEEP, _UNKEPT),
    _table(
        "invoices_by_hand", "xmin", "id int PRIMARY KEY, v text, pad text, updated_at timestamptz DEFAULT now()",
        _KEYED_FILL, done=(_ONCE,), writes=(_UPDATE, _NUMBERED), refuses=("timestamp", _UNKEPT),
        notes="its default is the clock, and no trigger sets it at an update",
    ),
    # Relations that are not tables of their own, or that this role may not read.
    Legacy(
        "customer_names", "full_snapshot", ("CREATE VIEW customer_names AS SELECT id, v FROM customers",),
        refuses=None,
    ),
    Legacy("names_kept", "full_snapshot", ("CREATE MATERIALIZED VIEW names_kept AS SELECT id, v FROM customers",)),
    Legacy(
        "parents", "full_snapshot",
        (
            "CREATE TABLE parents (id int PRIMARY KEY, v text, pad text)",
            "CREATE TABLE children () INHERITS (parents)",
            _FILL.format(t="parents", columns="id, v, pad", values=f"g, 'v', {_PAD}", rows=MID),
            "INSERT INTO children SELECT * FROM parents",
        ),
    ),
    _table("children_of_nobody", "xmin", _KEYED, _KEYED_FILL, done=(_ONCE,), writes=(_UPDATE,)),
    _table(
        "twins", None, 'id int PRIMARY KEY, "a" int, "A" int, pad text', f"id, pad = g, {_PAD}",
        refuses=("xmin", "would be A in the target"),
    ),
    _table(
        "secured", None, _KEYED, _KEYED_FILL, refuses=("xmin", "row-level security"),
        done=("ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",),
    ),
    _table("secret", None, _KEYED, _KEYED_FILL, refuses=("xmin", "may not SELECT")),
)  # fmt: skip

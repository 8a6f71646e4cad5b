"""Property tests of config: any tables.yaml and environment gives a valid configuration or a clear error, and reading
them has no side effects."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from aurora_sync.config.document import parse
from aurora_sync.config.loader import SyncConfig, expand, from_mapping, load
from aurora_sync.config.problems import LONGEST_PROBLEM
from aurora_sync.config.schema import json_schema
from aurora_sync.config.settings import VARIABLES, Settings
from aurora_sync.config.tables import TableConfig, TableOptions
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError
from aurora_sync.source.dsn import describe
from aurora_sync_tests.config.test_schema import VALID

SAMPLE = (Path(__file__).parents[2] / "tables.yaml").read_text(encoding="utf-8")
SCHEMA = Draft202012Validator(json_schema())
EXISTING = [("public", "t1"), ("public", "audit_a"), ("legacy", "a.b"), ("a[b", "*\n")]
# Names of Python that must not appear in a message for people.
INTERNAL = re.compile(r"Traceback|\b[A-Z]\w+Error\b|object at 0x|pydantic|NoneType|set_int_max_str_digits")
# Quotations of the file may contain such a name: Hypothesis tries the words of this test file as well.
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
CHANGING = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.system", "os.truncate", "os.link"}
STARTING = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork"}


class Touched:
    """A recorder of side effects from audit events: files written, processes started, hosts looked up."""

    def __init__(self) -> None:
        self.watching = False
        self.found: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3
        if self.watching and (writes or event in CHANGING | STARTING):
            self.found.append(f"{event} {arguments}")

    def connect(self, *_: Any, **__: Any) -> None:
        self.found.append("psycopg2.connect")

    @contextmanager
    def nothing(self) -> Iterator[None]:
        self.watching = True
        try:
            yield
        finally:
            self.watching = False
        assert self.found == []


TOUCHED = Touched()


@pytest.fixture(scope="module", autouse=True)
def _watched() -> Iterator[None]:
    sys.addaudithook(TOUCHED.hook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg2, "connect", TOUCHED.connect)
        yield


@pytest.fixture(scope="module")
def tables_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "tables.yaml"


def lines_in(raw: bytes) -> int:
    """Return the number of lines by the line breaks of YAML."""
    return len(re.split(b"\r\n|\n|\r|\xc2\x85|\xe2\x80\xa8|\xe2\x80\xa9", raw))


def assert_clear(error: ConfigError, path: Path, last_line: int) -> None:
    """Assert that every problem is one line, which begins with the file and, if it has one, the line number."""
    assert error.problems
    for problem in error.problems:
        match = re.fullmatch(rf"{re.escape(str(path))}(?::([0-9]+))?: \S.{{5,}}", problem)
        assert match, problem
        assert problem.isprintable()
        assert len(problem) <= 12 * LONGEST_PROBLEM
        assert not INTERNAL.search(QUOTED.sub("", problem)), problem
        if match[1]:
            assert 1 <= int(match[1]) <= last_line + 1, problem  # libyaml adds a final line break
        else:
            assert problem.endswith("the file is empty; expected the key tables with a list of one or more entries"), (
                problem
            )


def read(path: Path, raw: bytes) -> SyncConfig | None:
    """Return the configuration in the bytes, which the JSON Schema must accept too; None after a clear error."""
    path.write_bytes(raw)
    last_line = lines_in(raw)
    try:
        with TOUCHED.nothing():
            config = load(path)
    except ConfigError as error:
        assert_clear(error, path, last_line)
        return None
    value = parse(raw.decode("utf-8-sig")).value
    assert [found.message for found in SCHEMA.iter_errors(value)] == []
    try:
        with TOUCHED.nothing():
            tables = expand(config, EXISTING)
    except ConfigError as error:
        assert_clear(error, path, last_line)
    else:
        assert tables
        assert len({table.target for table in tables}) == len(tables)
    assert path.read_bytes() == raw
    return config


# Any bytes, any text


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfet\x00a\x00")
@example(b"\xef\xbb\xbf" + "äöü\n".encode() * 9 + b"tables: \x07\n")
@settings(max_examples=150)
def test_any_bytes_are_a_clear_error(tables_yaml: Path, raw: bytes) -> None:
    assert read(tables_yaml, raw) is None


@given(st.text(st.characters(codec=None) | st.sampled_from(" \t\r\n-:?,[]{}#&*!|>'\"%@`~<=.0x\0\ufeff\u2028\x85")))
@settings(max_examples=300)
def test_any_text_is_a_clear_error(tables_yaml: Path, text: str) -> None:
    assert read(tables_yaml, text.encode("utf-8", "surrogatepass")) is None


# Documents of the real keys


RIGHT: dict[str, Sequence[str]] = {
    "table_name": ["t9", "legacy.t", "audit_?", "'[*]a[.]b'", "'*'", "'a[b'", "'[z-a]*'", "🦆", "'[[]'", "'[a--b]*'"],
    "policies": ["refuse", "exempt"],
    "schema": ["legacy", "'*'", "ünï", "a.b"],
    "watermark_type": [*WatermarkType],
    "watermark_col": ["id", "null", "Ü b"],
    "watermark_cols": ["[a, b]", "null"],
    "watermark_set_by": ["database", "application", "null"],
    "lookback": ["1", "0x10", "1_000", "9223372036854775807", "null"],
    "append_only": ["true", "no"],
    "slot": ["orders_2", "null"],
    "show_values": ["true", "no"],
    "history": ["true", "no"],
    "topic_prefix": ["shop", "a.b-c_9", "null"],
    "files": ["s3://bucket/folder", "s3://abc", "null"],
    "cdc_path": ["cdc", "all/changes", "null"],
    "connector": ["{}", "{decimal.handling.mode: precise, role: cdc}", "{plain_arrays: true}", "null"],
    "primary_key": ["id", "[a, b]", "null"],
    "exclude": ["audit_a", "['*b', public.*]", "'[!a]*'"],
    "target_schema": ["x", "'RAW_{schema}'", "null"],
    "target_table": ["t", "'{schema}_{table}'", "null"],
    "text_length": ["source", "max"],
    "timestamptz": ["tz", "ltz", "ntz"],
    "names": ["upper", "preserve", "lower"],
    "rely": ["true", "no"],
    "transient": ["true", "no"],
    "retention_days": ["0", "90", "null"],
    "cluster_by": ["id", "[a, b]", "null"],
    "object_tags": ["{}", "{tag: ''}", '{db.s.tag_1: "it\'s"}'],
    "merge_predicate": ['t."A" > CURRENT_DATE - 3', "null"],
    "columns": ["{include: [a]}", "{exclude: 'secret_*'}", "{}"],
    "column_types": ["{a: text}", "{a: null}", "{}"],
    "types": ["{int4: clamp}", "{array: ~}", "{}"],
    "deletes": ["hard", "soft"],
    "export": ["client", "aurora"],
    "delete_guard": ["{}", "{max_rows: 0}", "{max_share: 1}", "{max_rows: 5, max_share: 0.5}"],
    "reconcile": ["{every: 3}", "{schedule: '0 5 * * 0'}", "{}", "null"],
    "verify": ["'0 5 * * 0'", "null"],
    "schedule": ["'*/15 * * * *'", "'0 0 29 2 *'", "null"],
    "freshness": ["2h", "{fail_after: 2h, warn_after: 30m}", "{warn_after: 1h}", "{}", "null", "{warn_after: null}"],
    "group": ["sales", "a/b", "null"],
    "owners": ["[]", "['team:data']", "[joe@example.com]"],
    "tags": ["{}", "{tier: gold}", "{example.com/a: ''}"],
    "op_tags": ["{}", "{a: b}", "{dagster-k8s/config: {container_config: {resources: {limits: {cpu: 1}}}}}"],
    "run_tags": ["{}", "{team: ''}", "{a: {b: [1, null]}}"],
    "priority": ["0", "-1000", "1000"],
    "pool": ["large", "a/b-c", "null"],
    "checks": [
        "{}",
        "{schema: {every: 2}}",
        "{row_count: {tolerance: 0.1, blocking: on}}",
        "{watermark: {}, slot: {max_retained_gb: 1.5}}",
    ],
    "schema_changes": ["apply", "freeze", "ignore"],
    "max_snapshot_minutes": ["1", "1:30"],
    "load": ["{}", "{chunk_bytes: 8192, parallel: 4}", "{window: '22:00-06:00', max_chunk_minutes: 5}"],
}
WRONG = [
    *(
        "",
        "~",
        "yes",
        "0",
        "-1",
        "1.0",
        "1e3",
        "1.0e+400",
        ".nan",
        "-.inf",
        "1:30",
        "1:0:0.5",
        "0o17",
        "017",
        "0b",
        "0x_",
    ),
    *("2024-01-31", "2024-01-31 10:00:00 +1", "=", "<<", "'<<'", "[]", "{}", "[[]]", "{a: {b: {c: d}}}", "[a, a]"),
    *("!!int ''", "!!int '-'", "!!float ''", "!!float '.'", "!!bool ''", "!!null x", "!!str {a: b}", "!!map []"),
    *("!!seq x", "!!binary aGk=", "!!set {a}", "!!omap [a: b]", "!!timestamp x", "!secret x", "!<> x", "! x"),
    *("!!python/object/apply:os.system [touch x]", "!!python/name:os.system", "!!python/object:os.PathLike {}"),
    *(
        '"a\\0b"',
        '"\\ud800"',
        '"\\e[31m\\n"',
        "'🦆'",
        '"\\u202e"',
        "*a",
        "&a x",
        "&b [*b]",
        "*nowhere",
        "? x",
        "{? [a] : b}",
    ),
    *("{1: a, true: b, ~: c, 2024-01-31: d}", "{schema: {foo: 1}}", "{row_count: {evry: 1}}", "{every: 0, x: y}"),
    *(
        "9" * 30,
        "9" * 5000,
        "0x" + "f" * 900,
        "0x" + "f" * 5000,
        "1" + ":59" * 300,
        "1" + ":59" * 300 + ".5",
        "x" * 1001,
    ),
    *(
        "'*/" + "1" * 900 + " * * * *'",
        "'" + "1" * 900 + " * * * *'",
        "'0 0 31 2 *'",
        "'٥ * * * *'",
        "[" * 30 + "]" * 30,
    ),
]
OPTIONS = sorted(field.alias or name for name, field in TableOptions.model_fields.items())
KEYS = sorted(field.alias or name for name, field in TableConfig.model_fields.items())
HOSTILE_KEYS = [
    "schema_",
    "watermark_typ",
    "1",
    "true",
    "~",
    "2024-01-31",
    "? [a]",
    "<<",
    "'<<'",
    '"a\\nb"',
    "🦆",
    '"\\0"',
    "''",
]
scalars = st.one_of(
    st.sampled_from(WRONG),
    st.text(max_size=8).map(json.dumps),
    st.integers().map(str),
    st.floats().map(str),
)


def pairs(keys: Sequence[str]) -> st.SearchStrategy[tuple[str, str]]:
    """Draw a key and a value as YAML, each of them valid in most cases."""
    right = st.sampled_from([(key, value) for key in keys for value in RIGHT[key]])
    wrong = st.tuples(st.sampled_from([*keys, *HOSTILE_KEYS]), scalars)
    return st.one_of(right, right, right, wrong)


def mapping(items: Sequence[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"


def test_every_key_has_right_values_to_be_fuzzed_with() -> None:
    assert sorted(RIGHT) == KEYS


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Draw flow mappings of known and other keys, with anchors and merges, any line ends and byte order marks."""
    entries = []
    for index in range(draw(st.integers(1, 3))):
        entry = {"table_name": f"t{index}", "watermark_type": "xmin"}
        if draw(st.booleans()):
            entry = {"table_name": f"t{index}", **{k: json.dumps(v) for k, v in draw(st.sampled_from(VALID)).items()}}
        extra = dict(draw(st.lists(pairs(KEYS), max_size=4)))
        twice = draw(st.lists(pairs(KEYS), max_size=1)) if draw(st.integers(0, 9)) == 0 else []
        merge = [("<<", draw(st.sampled_from(["*a", "[*a, *a]", "x"])))] if draw(st.integers(0, 9)) == 0 else []
        anchor = draw(st.sampled_from(["", "", "&a "]))
        entries.append(f"- {anchor}{mapping([*merge, *(entry | extra).items(), *twice])}")
    top = draw(st.sampled_from(["", "", "", "tabels: x\n", "$schema: 5\n", "---\n", "%YAML 1.1\n---\n", "a: &a {}\n"]))
    defaults = draw(st.lists(pairs(OPTIONS), max_size=3, unique_by=lambda pair: pair[0]))
    text = f"{top}defaults: {mapping(defaults)}\ntables:\n" + "\n".join(entries)
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\u2028", "\n\t"]))
    mark = draw(st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]))
    return (mark + text.replace("\n", end)).encode("utf-8", "surrogatepass")


def entry(text: str) -> bytes:
    return f"tables:\n- {{table_name: t, watermark_type: xmin, {text}}}\n".encode()


@given(documents())
@example(entry("max_snapshot_minutes: 0x" + "f" * 900))
@example(entry("group: 0x" + "f" * 5000))
@example(entry("max_snapshot_minutes: !!int ''"))
@example(entry("delete_guard: {max_share: 1" + ":59" * 300 + ".5}"))
@example(entry("checks: {schema: {foo: 1}}"))
@example(entry('"a\\nb\\e[31m": 1'))
@example(entry("schedule: '*/" + "1" * 900 + " * * * *'"))
@example(b"defaults: {freshness: {fail_after: 2h}}\n" + entry("freshness: {warn_after: 1h}"))
@example(b"defaults: {freshness: {fail_after: 2h}}\n" + entry("freshness: {}"))
@example(entry("<<: !!python/object:os.PathLike {}"))
@example(b"$schema: 5\n" + entry("group: x"))
@example(b"a: &a 1" + b":59" * 300_000)
@settings(max_examples=400)
def test_documents_of_known_and_unknown_keys_load_as_the_schema_says_or_are_a_clear_error(
    tables_yaml: Path, raw: bytes
) -> None:
    read(tables_yaml, raw)


@pytest.mark.parametrize("key", KEYS)
def test_every_right_value_of_a_key_is_accepted_somewhere(tables_yaml: Path, key: str) -> None:
    default = "defaults: {freshness: {fail_after: 2h}, reconcile: {every: 9}}\n"
    for value in RIGHT[key]:
        entries = [
            mapping([*({k: json.dumps(v) for k, v in base.items()} | {key: value}).items()])
            for base in [
                *VALID,
                {"table_name": "t", "watermark_type": "full_snapshot"},
                {"table_name": "t", "watermark_col": "c"},
                {"table_name": "t", "watermark_type": "logical"},
                {"table_name": "t", "watermark_type": "debezium", "topic_prefix": "p"},
                {"table_name": "t", "watermark_type": "dms", "files": "s3://abc"},
            ]
        ]
        assert any(read(tables_yaml, f"{default}tables:\n- {text}\n".encode()) for text in entries), value


# The file of this repository, with one thing changed


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the paths of all nodes below the root."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


TREE = yaml.safe_load(SAMPLE)
PLACES = list(places(TREE))
VALUES: list[Any] = [None, True, 0, -1, 2**200, 1.5, float("nan"), "", "x", "🦆", "a\0b", [], {}, [None], {"a": [{}]}]


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw the sample with nodes deleted, duplicated, of another type or under another key."""
    tree = deepcopy(TREE)
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3, unique=True)):
        if path not in places(tree):  # an earlier mutation removed it
            continue
        parent = reduce(getitem, path[:-1], tree)
        value = parent[path[-1]]
        match draw(st.sampled_from(["delete", "double", "retype", "rename"])):
            case "delete":
                del parent[path[-1]]
            case "double" if isinstance(parent, list):
                parent.append(value)
            case "rename" if isinstance(parent, dict):
                del parent[path[-1]]
                parent[draw(st.text(max_size=5) | st.sampled_from([1, None, True, *KEYS]))] = value
            case _:
                # A copy: a later step may change the value in place, which would change VALUES for all later examples.
                parent[path[-1]] = deepcopy(draw(st.sampled_from(VALUES)))
    return yaml.safe_dump(tree, allow_unicode=True).encode()


@given(mutations())
@settings(max_examples=150)
def test_the_sample_with_nodes_changed_loads_as_the_schema_says_or_is_a_clear_error(
    tables_yaml: Path, raw: bytes
) -> None:
    read(tables_yaml, raw)


@given(st.integers(0, len(SAMPLE)), st.integers(0, 20), st.one_of(st.text(max_size=10), st.sampled_from(WRONG)))
@settings(max_examples=250)
def test_the_sample_with_text_spliced_in_loads_as_the_schema_says_or_is_a_clear_error(
    tables_yaml: Path, offset: int, cut: int, text: str
) -> None:
    spliced = SAMPLE[:offset] + text + SAMPLE[offset + cut :]
    read(tables_yaml, spliced.encode("utf-8", "surrogatepass"))


# Large files


@contextmanager
def few_calls() -> Iterator[None]:
    """Fail after 40 million calls and returns of functions; their number does not depend on the load of the machine.

    The largest file below takes 17 million. An algorithm with a step for each pair of entries, or for each path of
    aliases, takes 50 million and more.
    """
    left = 40_000_000

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise AssertionError("the steps grow faster than the file")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    "raw",
    [
        b"a: &a [" + b"x," * 10_000 + b"]\ntables: [*a, *a]\n",
        b"tables: [" + b"{" * 10_000,
        b"tables: [" + b"2024-01-31, " * 10_000 + b"]\n",
        b"tables: [" + b"x, " * 10_000 + b"]\n",
        entry("primary_key: [" + "id, " * 10_000 + "]"),
        entry("watermark_cols: [" + "id, " * 10_000 + "]"),
        entry("exclude: [" + "id, " * 10_000 + "]"),
        entry("exclude: [" + ", ".join(f"a{n}" for n in range(10_000)) + "]"),
        entry('"' + "k" * 1_000_000 + '": x'),
        entry("group: !" + "k" * 1_000_000 + " x"),
        entry("<<: {" + ", ".join(f"a{n}: x" for n in range(5_000)) + "}"),
        b"\n".join(
            [
                b"a0: &a0 {k: x}",
                *(b"a%d: &a%d {<<: [%s]}" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 18)),
            ]
        ),
    ],
    ids=[
        "alias",
        "depth",
        "dates",
        "entries",
        "names",
        "columns",
        "globs",
        "other globs",
        "key",
        "tag",
        "merge",
        "merges",
    ],
)
def test_a_file_that_is_large_is_refused_after_steps_in_proportion(tables_yaml: Path, raw: bytes) -> None:
    with few_calls():
        assert read(tables_yaml, raw) is None


def test_a_number_too_large_to_print_is_refused_where_no_file_was_read() -> None:
    table = {"table_name": "t", "watermark_type": "integer", "watermark_col": "id", "lookback": 1 << 20_000}
    with pytest.raises(
        ConfigError, match="lookback: found a number of more than 64 bits; expected 9223372036854775807"
    ):
        from_mapping({"tables": [table]}, Path("defs.yaml"))


# The environment


@st.composite
def passwords(draw: st.DrawFn) -> str:
    """Draw texts of two kinds of characters: letters that no host, user or message has, and characters with a special
    meaning in URLs or to libpq."""
    return draw(st.text("Ωψ07/@:?#%&,[] '\\\"", max_size=6)) + "Ω" + draw(st.text("Ωψ0/@:", max_size=3))


DSNS: list[Callable[[str], str]] = [
    lambda secret: secret,
    lambda secret: f"host=h dbname=d user=u password='{secret}'",
    lambda secret: f"host=h password={secret}",
    lambda secret: f"postgresql://u:{secret}@h:5432/d",
    lambda secret: f"postgres://u:{secret}@h/d?sslmode=require",
    lambda secret: f"postgresql://u:{secret}@[::1]/d",
    lambda secret: f"postgresql://u:{secret}",
    lambda secret: f"postgresql://u:{secret}/d",
    lambda secret: f"postgresql:/u:{secret}@h/d",
    lambda secret: f"jdbc:postgresql://u:{secret}@h/d",
]
PLAUSIBLE: dict[str, Sequence[str]] = {
    "AURORA_SYNC_STAGE": ["s3://bucket", "s3://bucket/a/b/", "s3://Bucket", "s3:/bucket", "s3://b", "s3://bucket/\n?"],
    "AURORA_SYNC_WAREHOUSE": [
        "snowflake",
        "snowflake",
        "duckdb:w.duckdb",
        "duckdb:",
        "duckdb",
        "Snowflake",
        "duckdb:\n",
    ],
    "SNOWFLAKE_PORT": ["443", "0", "65535", "65536", "99999", "٣", "-1", "1e3", "4_3"],
    "SNOWFLAKE_PROTOCOL": ["http", "https", "HTTP", "ftp"],
    "SNOWFLAKE_AUTHENTICATOR": ["externalbrowser", "OAUTH", "snowflake", "kerberos"],
    "SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": ["AWS", "aws"],
    **{f"SNOWFLAKE_{name}_TIMEOUT": ["60", "0", "599999", "600000", "٣"] for name in ("STATEMENT", "NETWORK", "LOGIN")},
}
TEXT = st.text(st.characters(codec=None, exclude_characters="Ωψ"), max_size=12)
SECRETS = [variable.name for variable in VARIABLES if variable.secret and variable.name != "AURORA_DSN"]


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Draw an environment: each variable is valid, wrong or missing. Secrets are in their own variables; the DSN may be
    in others too."""
    dsn = draw(st.sampled_from(DSNS))(draw(passwords()))
    environ = {"AURORA_DSN": dsn}
    for variable in VARIABLES[1:]:
        if variable.name in SECRETS:
            values = passwords()
        else:
            values = st.one_of(st.sampled_from([*PLAUSIBLE.get(variable.name, ["x", ""])]), TEXT)
        if draw(st.integers(0, 4)) or (variable.needed != "optional" and draw(st.integers(0, 4))):
            environ[variable.name] = draw(values)
    return environ


NEEDED = {"AURORA_SYNC_STAGE": "s3://bucket", "AURORA_SYNC_WAREHOUSE": "duckdb:w.duckdb"}


@given(environments())
@example(NEEDED | {"AURORA_DSN": "host=h password=Ω\udcff"})
@example(NEEDED | {"AURORA_DSN": "host=h\0 password=Ω"})
@example(NEEDED | {"AURORA_DSN": "postgresql://u:7/Ω@h/d"})
@example(NEEDED | {"AURORA_DSN": "postgresql://u:0@Ω@h/d"})
@example(NEEDED | {"AURORA_DSN": "postgresql://u:Ω/d"})
@example(NEEDED | {"AURORA_DSN": "postgresql://u:@Ω"})
@example(NEEDED | {"AURORA_DSN": "host=h", "AURORA_SYNC_TABLES": "a\0b"})
@example(NEEDED | {"AURORA_DSN": "host=h", "SNOWFLAKE_PORT": "65536"})
@settings(max_examples=500)
def test_any_environment_is_settings_or_a_clear_error_without_a_secret(environ: dict[str, str]) -> None:
    try:
        with TOUCHED.nothing():
            found = Settings.from_environment(environ)
    except ConfigError as error:
        names = "|".join(variable.name for variable in VARIABLES)
        for problem in error.problems:
            assert re.match(rf"(no login is set; set )?({names})\b", problem), problem
            assert problem.isprintable()
            assert not INTERNAL.search(problem)
            assert re.search("; expected .|; it is .|set (it|SNOWFLAKE_)", problem), problem
        shown = f"{error} {error!r}"
    else:
        shown = f"{found} {found!r} {describe(found.dsn)}"
        given_port = getattr(found.warehouse, "port", None)
        assert given_port is None or 1 <= given_port <= 65535
    assert not {"Ω", "ψ"} & set(shown)


@pytest.mark.parametrize("name", ["AURORA_SYNC_STAGE", "AURORA_SYNC_WAREHOUSE", "SNOWFLAKE_PORT", "SNOWFLAKE_PROTOCOL"])
@pytest.mark.parametrize(
    "written",
    [
        "postgresql://u:Ω/x\n@h/d",
        "s3://u:a//Ω@b",
        "u:Ω@h",
        "host=h password=Ω",
        "host=h PASSWORD = 'a Ω'",
        "h?password=Ω",
    ],
)
def test_a_login_in_the_wrong_variable_is_not_shown(name: str, written: str) -> None:
    environ = {"AURORA_DSN": "host=h", **NEEDED, name: written}
    with pytest.raises(ConfigError, match=rf"{name}: found '.*\*\*\*.*'; expected ") as caught:
        Settings.from_environment(environ)
    assert "Ω" not in str(caught.value)

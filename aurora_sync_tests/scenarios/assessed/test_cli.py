"""``aurora-sync assess`` as a user types it, with AURORA_DSN and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync.config.loader import expand, load
from aurora_sync_tests.scenarios.assessed.legacy_tables import TABLES
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def dsn_alone(unchanged_legacy: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_DSN", unchanged_legacy.dsn)
    for name in ("AURORA_SYNC_STAGE", "AURORA_SYNC_WAREHOUSE", "AURORA_SYNC_TABLES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("dsn_alone")
def test_it_writes_a_valid_file_once_and_then_tells_the_difference(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "new.yaml"
    assert main(["assess", "--write", str(path), "--html", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    assert "new.yaml was written: 43 of 46 tables" in out
    left_out = [line for line in out.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 3
    assert "left out: public.secret: this role may not SELECT from it; expected SELECT on the whole table" in out
    assert len(load(path).tables) == 43
    page = (tmp_path / "page.html").read_text()
    assert page.count("<details>") == 46
    assert "o&quot;r&#x27;der s" in page
    text = path.read_text()
    assert main(["assess", "--write", str(path)]) == 0
    assert "exists and was not changed; it agrees with the proposal" in capsys.readouterr().out
    assert path.read_text() == text


@pytest.mark.usefixtures("dsn_alone")
def test_it_explains_one_table_in_words_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assess", "events_cached"]) == 0
    out = capsys.readouterr().out
    assert "integer, refused" in out
    assert "CACHE 20: sessions hold numbers back" in out
    assert main(["assess", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["table"] for each in document["tables"]} >= {f"public.{table.name}" for table in TABLES}


def test_a_column_that_lies_is_reported_with_the_places_of_rows(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The rows are of many days, each from its own transaction. Two of them were changed later, but not in this
    column."""
    for name in ("honest", "lying"):
        world.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, v text, updated_at timestamptz)",
            *(f"INSERT INTO {name} VALUES ({n}, 'v', now() - interval '{20 - n} days')" for n in range(10)),
        )
    world.execute(
        "UPDATE lying SET v = 'changed' WHERE id IN (3, 4)",
        "UPDATE honest SET v = 'changed', updated_at = now() WHERE id IN (3, 4)",
        "INSERT INTO honest VALUES (98, 'future', '2999-01-01'), (99, 'never', 'infinity')",
        "UPDATE honest SET v = 'after', updated_at = clock_timestamp() WHERE id = 5",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    assert main(["assess", "--prove"]) == 1
    out = capsys.readouterr().out
    unreliable = "updated_at is UNRELIABLE: 2 of 10 rows were written at least an hour later than it shows"
    assert f"public.lying: {unreliable}" in out
    ((place,),) = world.execute("SELECT ctid::text FROM lying WHERE id = 3")
    assert f"  public.lying at ctid {place}: says " in out
    assert "public.honest: updated_at: none of 12 rows was written later than it shows" in out


@pytest.mark.parametrize(("type_name", "late"), [("timestamp", "27 hours"), ("date", "51 hours")])
def test_a_time_without_zone_lies_only_by_more_than_zones_are_apart(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    type_name: str,
    late: str,
) -> None:
    world.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, updated_at {type_name})",
        "INSERT INTO t VALUES (1, now() AT TIME ZONE 'Asia/Tokyo')",
        "INSERT INTO t VALUES (2, now() AT TIME ZONE 'America/New_York')",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    assert main(["assess", "--prove"]) == 0
    assert "none of 2 rows was written later than it shows" in capsys.readouterr().out
    world.execute("INSERT INTO t VALUES (3, '-infinity'), (4, now() - interval '3 days')")
    assert main(["assess", "--prove"]) == 1
    out = capsys.readouterr().out
    assert f"2 of 4 rows were written at least {late} later than it shows" in out
    assert "  public.t at ctid (0,3): says -infinity" in out


def test_what_a_file_lacks_can_be_pasted_into_it(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The missing table is in another schema than the file's default, and its name would break YAML. A table that would
    share a target is not proposed."""
    name = '"a: #\u2028\x85\x1b[31m"'
    world.execute(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int PRIMARY KEY)",
        'CREATE TABLE sales."Orders" (id int PRIMARY KEY)',
        f"CREATE TABLE public.{name} (id int PRIMARY KEY)",
    )
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    path = tmp_path / "new.yaml"
    path.write_text("defaults: {schema: sales}\ntables:\n  - {table_name: orders, watermark_type: xmin}\n")
    assert main(["assess", "--write", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    head, _, entries = out.partition("no entry configures the table\n")
    assert ("Orders:" in entries, "+ public.a: #" in head) == (False, True)
    path.write_text(path.read_text() + entries)
    found = expand(load(path), [])
    assert [(t.schema_, t.table_name) for t in found] == [("sales", "orders"), ("public", name[1:-1])]
    for arguments in ([], ["orders"]):  # an assessment of one table does not mention the others
        assert main(["assess", *arguments, "--json", "--write", str(path)]) == 0
        (said,) = json.loads(capsys.readouterr().out)["said"]
        assert said.endswith("exists and was not changed; it agrees with the proposal")


@pytest.mark.usefixtures("dsn_alone")
def test_nothing_is_written_where_nothing_can_be_synced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    assert main(["assess", "secret", "--write", str(path)]) == 0
    assert "was not written: no table can be synced without a change at the source" in capsys.readouterr().out
    assert not path.exists()
    assert main(["assess", "--write", str(tmp_path / "no" / "new.yaml")]) != 0
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.usefixtures("dsn_alone")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such"], "no table 'no_such' that is visible to this role"),
        (["--freshness", "soon"], "--freshness: expected a number of minutes"),
        (["--max-read-per-day", "much"], "--max-read-per-day: expected a size"),
    ],
)
def test_what_is_wrong_is_a_clear_error(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["assess", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_a_source_it_says_which_variable_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AURORA_DSN", raising=False)
    assert main(["assess"]) == 2
    assert "AURORA_DSN is not set" in capsys.readouterr().err


def test_a_schema_whose_name_is_a_pattern_is_written_as_the_name(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.execute('CREATE SCHEMA "a.[b]*"', 'CREATE TABLE "a.[b]*"."t?" (id int PRIMARY KEY)')
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    path = tmp_path / "new.yaml"
    assert main(["assess", "--write", str(path)]) == 0
    assert [t.qualified_name for t in expand(load(path), world.places.source.existing())] == ["a.[b]*.t?"]
    assert main(["assess", "--write", str(path)]) == 0
    assert "exists and was not changed; it agrees with the proposal" in capsys.readouterr().out

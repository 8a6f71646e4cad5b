"""``aurora-sync assess`` as a user types it, with AURORA_DSN and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.cli import main
from aurora_sync.config.loader import expand, load
from aurora_sync_tests.scenarios.assessed.legacy_tables import TABLES
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def dsn_alone(legacy: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_DSN", legacy.dsn)
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
    assert len(load(path).tables) == 43
    page = (tmp_path / "page.html").read_text()
    assert page.count("<details>") == 46
    assert "o&quot;r&#x27;der s" in page
    text = path.read_text()
    assert main(["assess", "--write", str(path)]) == 0
    assert "is there already, and was not changed; it fits" in capsys.readouterr().out
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


def test_a_column_that_lies_is_reported_with_the_keys_of_rows(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Rows of many days, each in its own transaction; two were changed later, and the column says nothing of it."""
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
    assert "public.lying: updated_at LIES: 2 of 10 rows were written at least an hour later than it says" in out
    assert "  3: says " in out
    assert "public.honest: updated_at: none of 12 rows shows a lie" in out


@pytest.mark.usefixtures("dsn_alone")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such"], "no table 'no_such' that this role may see"),
        (["--freshness", "soon"], "--freshness: allowed: a number of minutes"),
        (["--max-read-per-day", "much"], "--max-read-per-day: allowed: a size"),
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
    assert "is there already, and was not changed; it fits" in capsys.readouterr().out

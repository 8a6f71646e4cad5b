"""``aurora-sync metrics``, read by the parser of Prometheus's own client."""

from __future__ import annotations

import json
import re
import stat
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from psycopg2.extensions import parse_dsn

from aurora_sync.cli.main import main
from aurora_sync.engine.metrics import METRICS
from aurora_sync.model.prometheus import Metric, Sample, text_format
from aurora_sync_tests.cli.running import execute

Write = Callable[[str], None]
# Name without prefix, and the values of all labels but the database, to the value.
Found = dict[tuple[str, ...], float]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
NAME = f"metrics_{uuid.uuid4().hex[:8]}"


def scraped(capsys: pytest.CaptureFixture[str]) -> Found:
    """Run the command, and return what Prometheus reads."""
    capsys.readouterr()
    assert main(["metrics"]) == 0
    return parsed(capsys.readouterr().out)


def parsed(text: str) -> Found:
    known = {metric.name: metric for metric in METRICS}
    found: Found = {}
    for family in parse(text):
        for sample in family.samples:
            metric = known[sample.name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            assert tuple(sample.labels) == metric.labels
            assert sample.labels["database"]
            others = [value for label, value in sample.labels.items() if label != "database"]
            found[sample.name.removeprefix("aurora_sync_"), *others] = sample.value
    return found


def of(found: Found, name: str) -> Found:
    return {key: value for key, value in found.items() if key[0] == name}


def test_tables_have_the_numbers_of_their_last_run(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    execute(
        dsn,
        "CREATE TABLE m1 (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE m1_a PARTITION OF m1 FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE m2 (id int PRIMARY KEY)",
        "INSERT INTO m1 SELECT i, 'x' FROM generate_series(1, 5) i",
    )
    before = datetime.now(UTC).timestamp()
    write("- {table_name: 'm[12]', watermark_type: xmin}\n")
    assert main(["sync", "m1"]) == 0
    execute(
        dsn, "UPDATE m1 SET v = 'y' WHERE id < 3; INSERT INTO m1 VALUES (9, 'z')", "SELECT pg_stat_force_next_flush()"
    )
    assert main(["sync", "m1"]) == 0

    found = scraped(capsys)
    assert {key: value for key, value in found.items() if not key[0].endswith("timestamp_seconds")} == {
        ("source_up",): 1,
        ("warehouse_up",): 1,
        ("applied_runs_total", "public.m1"): 2,
        ("applied_runs_total", "public.m2"): 0,
        ("target_rows", "public.m1"): 6,
        ("last_run_staged_rows", "public.m1"): 3,
        ("last_run_changed_rows", "public.m1", "inserted"): 1,
        ("last_run_changed_rows", "public.m1", "updated"): 2,
        ("last_run_changed_rows", "public.m1", "deleted"): 0,
        ("certificate", "public.m1", "certified"): 1,
        ("certificate", "public.m1", "bounded"): 0,
        ("certificate", "public.m1", "uncertified"): 0,
        ("source_row_changes_total", "public.m1"): 8,
        ("source_row_changes_total", "public.m2"): 0,
    }
    reconciled, watermark, applied = (
        found[f"{name}_timestamp_seconds", "public.m1"] for name in ("last_reconcile", "watermark", "last_applied")
    )
    assert before < reconciled < watermark < applied < datetime.now(UTC).timestamp()

    # Without the source, the tables of the glob are those of the sync log.
    monkeypatch.setenv("AURORA_DSN", f"postgresql://nobody@127.0.0.1:1/{parse_dsn(dsn)['dbname']}")
    down = scraped(capsys)
    gone = {("source_up",), ("applied_runs_total", "public.m2"), *of(found, "source_row_changes_total")}
    assert down == {("source_up",): 0} | {key: value for key, value in found.items() if key not in gone}

    # Without the warehouse, the state of the source remains.
    monkeypatch.setenv("AURORA_DSN", dsn)
    (tmp_path / "broken.duckdb").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{tmp_path / 'broken.duckdb'}")
    assert scraped(capsys) == {("source_up",): 1, ("warehouse_up",): 0} | of(found, "source_row_changes_total")


def test_table_with_another_target_has_nothing_of_the_former_one(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write("- {table_name: t, watermark_type: xmin}\n")
    assert main(["sync"]) == 0
    for entry in ("{table_name: t, target_table: u", "{table_name: 't*', target_schema: other"):
        write(f"- {entry}, watermark_type: xmin}}\n")
        monkeypatch.setenv("AURORA_DSN", dsn)
        found = scraped(capsys)
        assert found["applied_runs_total", "public.t"] == 0
        assert not of(found, "certificate")
        monkeypatch.setenv("AURORA_DSN", f"postgresql://nobody@127.0.0.1:1/{parse_dsn(dsn)['dbname']}")
        assert scraped(capsys)["applied_runs_total", "public.t"] == 0


def test_a_slot_has_the_wal_that_is_kept_for_it(dsn: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write(f"- {{table_name: t, watermark_type: logical, slot: {NAME}}}\n")
    assert {key: value for key, value in scraped(capsys).items() if key[0].startswith("slot")} == {("slot_up", NAME): 0}
    assert main(["cdc", "setup", "--apply"]) == 0
    found = scraped(capsys)
    assert (found["slot_up", NAME], found["slot_active", NAME]) == (1, 0)
    execute(dsn, "INSERT INTO t SELECT generate_series(1, 1000)")
    after = scraped(capsys)
    for name in ("slot_retained_bytes", "slot_lag_bytes"):
        assert after[name, NAME] - found[name, NAME] > 50_000


def test_a_load_that_is_not_finished_has_its_chunks(dsn: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    execute(
        dsn,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i",
    )
    begin, end = (f"{datetime.now(UTC) + timedelta(hours=hours):%H:%M}" for hours in (10, 12))
    load = f"load: {{chunk_bytes: 16384, window: '{begin}-{end}'}}"
    write(f"- {{table_name: t, watermark_type: xmin, {load}}}\n")
    assert main(["sync"]) == 0
    found = scraped(capsys)
    assert found["load_chunks", "public.t"] > 3
    assert found["load_chunks_done", "public.t"] == 0
    assert found["certificate", "public.t", "uncertified"] == 1


def test_the_file_is_replaced_in_one_step_and_others_may_read_it(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write("- {table_name: t, watermark_type: xmin}\n")
    folder = tmp_path / "collector"
    folder.mkdir()
    path = folder / "aurora_sync.prom"
    path.write_text("old", encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        assert main(["metrics", "--file", str(path)]) == 0
        assert reader.read() == "old"
    assert capsys.readouterr().out == ""
    assert parsed(path.read_text(encoding="utf-8"))["applied_runs_total", "public.t"] == 0
    assert list(folder.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044

    assert main(["metrics", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    assert first == {
        "name": "aurora_sync_source_up",
        "labels": {"database": parse_dsn(dsn)["dbname"]},
        "value": 1,
    }
    assert main(["metrics", "--file", str(folder / "nothing" / "x.prom")]) == 2
    assert "x.prom cannot be written: No such file or directory" in capsys.readouterr().err


def test_names_may_have_any_character() -> None:
    metric = Metric("m", "gauge", "Text.", ("table",))
    names = ['a"b', "a\\n", "a\nb", "ä}{,="]
    (family,) = parse(text_format(Sample(metric, 1764528304123456, {"table": name}) for name in names))
    assert [sample.labels["table"] for sample in family.samples] == names
    assert {sample.value for sample in family.samples} == {1764528304123456}


def test_names_and_units_are_those_of_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("aurora_sync_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not metric.name.endswith(("_ms", "_minutes", "_mb", "_count"))
        assert metric.labels[0] == "database"


def test_the_page_describes_every_metric() -> None:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    assert re.findall(r"^\| `aurora_sync_.*", PAGE, re.MULTILINE) == rows


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries = [variable["definition"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    assert used_in(*expressions, *queries) == {metric.name for metric in METRICS}


def test_alerts_use_metrics_and_labels_that_exist() -> None:
    (rules,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    expressions = [rule["expr"] for rule in yaml.safe_load(rules)["groups"][0]["rules"]]
    unwatched = {"last_applied_timestamp_seconds", "last_run_staged_rows", "slot_active", "slot_lag_bytes"}
    assert used_in(*expressions) == {metric.name for metric in METRICS} - {f"aurora_sync_{each}" for each in unwatched}


def used_in(*expressions: str) -> set[str]:
    """Return the metrics that the expressions name. Each may only select by labels that the metric has."""
    known = {metric.name: metric for metric in METRICS}
    found = set()
    for expression in expressions:
        for name, selector in re.findall(r"\b(aurora_sync_\w+)(?:\{(.*?)\})?", expression):
            assert set(re.findall(r"(\w+) *=", selector)) <= set(known[name].labels), expression
            found.add(name)
    return found

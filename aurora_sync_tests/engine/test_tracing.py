"""The spans of runs, recorded by the SDK of OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aurora_sync.cli.main import main
from aurora_sync.model import tracing
from aurora_sync_tests.cli.running import execute


@pytest.fixture
def tables(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Set the environment to two tables of three rows each."""
    names = ("a", "b")
    execute(dsn, *(f"CREATE TABLE {name} AS SELECT generate_series(1, 3) AS id" for name in names))
    execute(dsn, *(f"ALTER TABLE {name} ADD PRIMARY KEY (id)" for name in names))
    file = tmp_path / "tables.yaml"
    file.write_text("tables:\n- {table_name: '*', watermark_type: xmin}\n", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(file))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Give the test a provider of its own; that of the process can be set only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def tree(spans: Sequence[ReadableSpan], parent: ReadableSpan | None = None) -> dict[str, Any]:
    """Return the names of the spans below ``parent``, in the order of their begin."""
    above = parent.context.span_id if parent and parent.context else None
    below = [span for span in spans if (span.parent.span_id if span.parent else None) == above]
    return {span.name: tree(spans, span) for span in sorted(below, key=lambda span: span.start_time or 0)}


@pytest.mark.usefixtures("tables")
def test_a_run_has_a_span_with_its_phases_and_its_result(recorded: InMemorySpanExporter) -> None:
    assert main(["sync", "a"]) == 0
    spans = recorded.get_finished_spans()
    assert tree(spans) == {"run": {"plan": {}, "export": {}, "load": {}, "merge": {}, "finish": {}}}
    for span in spans:
        assert span.status.is_unset
        if span.name in ("run", "finish"):
            assert span.attributes
            expected = {"table": "public.a", "strategy": "xmin", "rows": 3, "inserted": 3, "certificate": "certified"}
            assert {name: span.attributes[f"aurora_sync.{name}"] for name in expected} == expected
            assert int(str(span.attributes["aurora_sync.bytes"])) > 0

    recorded.clear()
    assert main(["verify", "a"]) == 0
    assert tree(recorded.get_finished_spans()) == {"verify": {"plan": {}, "export": {}, "compare": {}, "finish": {}}}


@pytest.mark.usefixtures("tables")
def test_chunks_are_read_in_another_thread_and_belong_to_the_run(
    dsn: str, recorded: InMemorySpanExporter, tmp_path: Path
) -> None:
    execute(dsn, "INSERT INTO a SELECT generate_series(4, 2000)", "ANALYZE a")
    entry = "tables:\n- {table_name: a, watermark_type: xmin, load: {chunk_bytes: 32768}}\n"
    (tmp_path / "tables.yaml").write_text(entry, encoding="utf-8")
    assert main(["sync"]) == 0
    spans = recorded.get_finished_spans()
    (run,) = (span for span in spans if span.parent is None)
    assert run.context
    exports = [
        span for span in spans if span.name == "export" and span.parent and span.parent.span_id == run.context.span_id
    ]
    loads = [span for span in spans if span.name == "load"]
    assert len(exports) == len(loads) > 2
    assert run.attributes
    assert run.attributes["aurora_sync.rows"] == 2000


@pytest.mark.usefixtures("tables")
def test_tables_that_share_a_transaction_share_a_span(dsn: str, recorded: InMemorySpanExporter) -> None:
    assert main(["sync"]) == 0
    execute(dsn, "INSERT INTO a VALUES (4)", "INSERT INTO b VALUES (4)")
    recorded.clear()
    assert main(["sync"]) == 0
    spans = recorded.get_finished_spans()
    (run,) = (span for span in spans if span.parent is None)
    names = sorted(span.name for span in spans if span is not run)
    assert names == sorted(["read", "plan", "export"] * 2 + ["load", "merge"] + ["finish"] * 2)
    finished = [dict(span.attributes or {}) for span in spans if span.name == "finish"]
    assert [each["aurora_sync.table"] for each in finished] == ["public.a", "public.b"]


@pytest.mark.usefixtures("tables")
def test_the_span_of_a_failed_run_has_the_error_without_values(dsn: str, recorded: InMemorySpanExporter) -> None:
    assert main(["sync", "b"]) == 0
    recorded.clear()
    execute(dsn, "ALTER TABLE b ALTER id TYPE text USING 'secret' || id, DROP CONSTRAINT b_pkey")
    assert main(["sync", "b"]) == 1
    (run,) = (span for span in recorded.get_finished_spans() if span.parent is None)
    assert run.status.status_code is trace.StatusCode.ERROR
    assert run.status.description
    assert "public.b" in run.status.description
    assert "secret" not in run.to_json()
    assert run.events == ()
    assert run.attributes
    assert run.attributes["error.type"] == "ConfigError"


@pytest.mark.usefixtures("tables")
def test_a_run_needs_no_package(monkeypatch: pytest.MonkeyPatch, recorded: InMemorySpanExporter) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracing._api.cache_clear()
    try:
        assert main(["sync", "a"]) == 0
    finally:
        tracing._api.cache_clear()
    assert recorded.get_finished_spans() == ()

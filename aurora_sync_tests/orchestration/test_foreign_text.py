"""Names, comments and values of others are plain text in Dagster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg
import psycopg2
import pytest
import yaml
from dagster._serdes import serialize_value
from markdown_it import MarkdownIt

from aurora_sync_tests.orchestration.conftest import Build, Execute, run

SECRET = "SECRET-7f3a"
EVIL = "x|![i](http://evil.example/i.png)[l](http://evil.example)<img src=x>`"

pytestmark = pytest.mark.usefixtures("settings")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def pattern(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[." else character for character in name)


def markdown_of(definitions: dg.Definitions, instance: dg.DagsterInstance, run_id: str) -> Iterable[str]:
    """Yield all texts that the UI renders as Markdown: of the assets, of the run, and of its checks."""
    for spec in definitions.resolve_all_asset_specs():
        yield spec.description or ""
        schema: Any = spec.metadata.get("dagster/column_schema")
        yield from (column.description or "" for column in (schema.columns if schema else ()))
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        found: Any = event and event.event_specific_data
        if event and event.event_type_value == "ASSET_CHECK_EVALUATION":
            yield found.description or ""
            metadata = found.metadata
        elif event and event.event_type_value == "ASSET_MATERIALIZATION":
            metadata = found.materialization.metadata
        else:
            continue
        yield from (value.value for value in metadata.values() if isinstance(value, dg.MarkdownMetadataValue))


def assert_plain(source: str) -> None:
    """Assert that the text has no link, image or HTML, and that Markdown tables have all their rows."""
    tokens = MarkdownIt("commonmark").enable(["table"]).parse(source)
    kinds = {child.type for token in tokens for child in (token, *(token.children or ()))}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}, source
    rows = [line for line in source.split("\n") if line.startswith("| ")]
    assert [token.type for token in tokens].count("tr_open") == max(0, len(rows) - 1), source
    assert "<" not in "".join(t.content for t in tokens if t.type.startswith("html")), source


def test_foreign_text_is_no_markdown(
    build: Build, instance: dg.DagsterInstance, execute: Execute, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"t\n{EVIL}"[:60]
    monkeypatch.setattr("aurora_sync.strategies.identity.LONG_TRANSACTION", timedelta(0))
    execute(
        f"CREATE TABLE {quoted(name)} (id text PRIMARY KEY, {quoted(EVIL[:60])} timestamp, w text);"
        f"COMMENT ON TABLE {quoted(name)} IS '{EVIL}\n\n# x'; COMMENT ON COLUMN {quoted(name)}.w IS '{EVIL}\n\n# x';"
        f"INSERT INTO {quoted(name)} VALUES ('{EVIL}', 'infinity', 'x')"
    )
    entry = {"table_name": pattern(name), "watermark_type": "xmin", "types": {"timestamp": "null"}, "show_values": True}
    definitions = build(yaml.safe_dump({"tables": [entry]}))
    shown: list[str] = []
    with contextlib.closing(psycopg2.connect(dsn, application_name=f"![a](http://e.e)|<b>{EVIL}"[:60])) as writer:
        writer.cursor().execute("CREATE TABLE other (id int)")
        for change in ("SELECT 1", f"ALTER TABLE {quoted(name)} RENAME w TO {quoted(EVIL[:50])}"):
            execute(change)
            result = run(definitions, instance)
            shown += markdown_of(definitions, instance, result.run_id)
        assets = definitions.resolve_implicit_global_asset_job_def().asset_layer.executable_asset_keys
        for key in assets:
            if key.path[-1] in ("verification", "assessment"):
                result = run(definitions, instance, asset_selection=[key])
                shown += markdown_of(definitions, instance, result.run_id)
        writer.rollback()
    everything = "\n".join(shown)
    for text in shown:
        assert_plain(text)
    for where in ("long transaction", "column renamed", "became NULL", "equal to their sources", "xmin fits", "evil"):
        assert where in everything


@pytest.mark.parametrize("show", [False, True], ids=["hidden", "shown"])
def test_values_are_in_no_event_and_no_metadata_unless_they_may_be(
    build: Build, instance: dg.DagsterInstance, execute: Execute, show: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cases: adjusted values, an error of the server, and an error of the warehouse."""
    execute(
        "CREATE TABLE good (id text PRIMARY KEY, n timestamp);"
        f"INSERT INTO good VALUES ('{SECRET}', 'infinity');"
        "CREATE VIEW bad AS SELECT id, id::int AS n FROM good; CREATE VIEW twice AS TABLE good UNION ALL TABLE good"
    )
    entries: list[dict[str, str | dict[str, str]]] = [
        {"table_name": "good", "watermark_type": "xmin", "types": {"timestamp": "null"}},
        {"table_name": "bad", "watermark_type": "full_snapshot"},
        {"table_name": "twice", "watermark_type": "full_snapshot", "primary_key": "id", "target_table": "other"},
    ]
    definitions = build(yaml.safe_dump({"defaults": {"show_values": show}, "tables": entries}))
    stored = []
    for entry in entries:
        key = dg.AssetKey(["public", str(entry.get("target_table", entry["table_name"]))])
        result = run(definitions, instance, asset_selection=[key], raise_on_error=False)
        assert result.success is (entry["table_name"] == "good")
        stored.append("\n".join(serialize_value(event) for event in instance.all_logs(result.run_id)))
    assert [SECRET in text for text in stored] == [show, show, show]
    assert (SECRET in "".join(capfd.readouterr())) is show
    assert "22P02" in stored[1]
    assert "is not unique" in stored[2]

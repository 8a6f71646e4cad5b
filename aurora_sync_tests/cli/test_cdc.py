"""``aurora-sync cdc``: the missing parts that it lists, creates and removes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
from psycopg2.extensions import parse_dsn

from aurora_sync.cli.main import main
from aurora_sync.source.connection import connect
from aurora_sync.source.debezium import kafka
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.logical import slot
from aurora_sync_tests.cli.running import Command, execute

Write = Callable[[str], None]
NAME = f"cli_{uuid.uuid4().hex[:8]}"
_CDC = Command("cdc")
said, document = _CDC.said, _CDC.document


LOGICAL = f"- {{table_name: t, watermark_type: logical, slot: {NAME}}}\n"


def test_setup_shows_each_step_with_its_reason_and_runs_it_when_told(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE t (id int UNIQUE NOT NULL, v text)")
    write(LOGICAL.replace("}", ", primary_key: id}"))
    text = said(capsys, 1, "setup")
    assert "its UPDATE and DELETE identify a row by nothing, but the merge key is id" in text
    assert 'ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "t_id_key";' in text
    assert f'CREATE PUBLICATION "{NAME}" FOR TABLE "public"."t" WITH (publish_via_partition_root = true);' in text
    assert f"SELECT pg_create_logical_replication_slot('{NAME}', 'pgoutput');" in text
    assert text.endswith("Nothing was changed; --apply runs these statements.\n")
    missing = document(capsys, 1, "status")[NAME]
    assert (missing["slot"], missing["tables"], len(missing["missing"])) == (None, ["public.t"], 3)

    done = document(capsys, 0, "setup", "--apply")[NAME]
    assert done["applied"] is True
    assert [bool(step["statement"]) for step in done["steps"]] == [True, True, True]
    assert "OK: nothing is missing" in said(capsys, 0, "setup", "--apply")
    found = document(capsys, 0, "status")[NAME]
    assert (found["slot"]["wal_status"], found["missing"]) == ("reserved", [])
    assert "reserved; 0." in said(capsys, 0, "status")

    shown = said(capsys, 0, "teardown")
    assert f"SELECT pg_drop_replication_slot('{NAME}');" in shown
    assert "Nothing was changed" in shown
    assert document(capsys, 0, "teardown", "--apply")[NAME]["applied"] is True
    assert (
        said(capsys, 0, "teardown")
        == f"slot {NAME}: there is nothing to drop\n\nNothing was changed; --apply runs these statements.\n"
    )


def test_a_sync_without_the_slot_says_how_to_make_it(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write(LOGICAL)
    assert main(["sync"]) == 1
    error = capsys.readouterr().err
    assert f"create replication slot {NAME}" in error
    assert "`aurora-sync cdc setup` shows the statements" in error


def test_a_role_that_may_not_is_told_what_to_grant(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"r_{uuid.uuid4().hex[:8]}"
    execute(
        dsn,
        "CREATE TABLE t (id int UNIQUE NOT NULL, v text)",
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON t TO {role}",
    )
    parts = parse_dsn(dsn)
    monkeypatch.setenv("AURORA_DSN", f"postgresql://{role}:x@{parts['host']}:{parts['port']}/{parts['dbname']}")
    write(LOGICAL.replace("}", ", primary_key: id}"))
    try:
        text = said(capsys, 1, "setup")
        assert f"ALTER ROLE ... REPLICATION for {role}" in text
        assert "set the replica identity of public.t to index t_id_key" in text
        assert "only the owner of the table may do this" in text
        assert main(["cdc", "setup", "--apply"]) == 1
        assert "may not use replication slots" in capsys.readouterr().err
        with connect(dsn) as connection:
            assert slot.look(connection, NAME) is None
    finally:
        execute(dsn, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_that_no_stream_leads_from_is_named(dsn: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    execute(
        dsn,
        "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE g (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (v) STORED)",
    )
    write(LOGICAL + LOGICAL.replace("table_name: t", "table_name: g"))
    text = said(capsys, 1, "setup")
    assert "public.t is unlogged: its changes are in no stream; use watermark_type: xmin" in text
    assert "exclude w of public.g with columns.exclude" in text
    assert "--apply does not do this; do it yourself" in text


def test_projects_without_streams_say_so(dsn: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write("- {table_name: t, watermark_type: xmin}\n")
    for action, what in (
        ("setup", "logical or debezium"),
        ("status", "logical or debezium"),
        ("connector", "logical or debezium"),
        ("dms", "dms"),
    ):
        assert main(["cdc", action]) == 2
        assert f"no table has watermark_type: {what}" in capsys.readouterr().err
    write(LOGICAL)
    assert main(["cdc", "status", "--slot", "other"]) == 2
    assert "no table has slot other" in capsys.readouterr().err


def test_a_connector_is_printed_as_kafka_connect_takes_it(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write(f"- {{table_name: t, watermark_type: debezium, topic_prefix: shop, slot: {NAME}}}\n")
    printed = json.loads(said(capsys, 0, "connector"))
    assert printed["name"] == "shop"
    config = printed["config"]
    assert (config["slot.name"], config["publication.name"], config["topic.prefix"]) == (NAME, NAME, "shop")
    assert config["database.port"] == str(parse_dsn(dsn)["port"])
    assert "create role debezium, with LOGIN and REPLICATION" in said(capsys, 1, "setup")


def test_a_compacted_topic_is_noted(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the brokers do not answer, the command waits a moment and reports no error."""
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write(f"- {{table_name: t, watermark_type: debezium, topic_prefix: shop, slot: {NAME}}}\n")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(kafka, "POLICY_SECONDS", 0.3)
    assert "cleanup.policy" not in said(capsys, 1, "status")
    monkeypatch.setattr(Kafka, "cleanup_policies", lambda self, names: dict.fromkeys(names, "compact"))
    assert "note: topic shop.public.t has cleanup.policy=compact" in said(capsys, 1, "status")
    assert "cleanup.policy=compact" in document(capsys, 1, "status")[NAME]["notes"][-1]


def test_settings_of_a_dms_task_are_printed(dsn: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write("- {table_name: t, watermark_type: dms, files: s3://bucket/folder}\n")
    printed = json.loads(said(capsys, 0, "dms"))
    assert list(printed) == ["s3://bucket/folder"]
    assert printed["s3://bucket/folder"]["S3Settings"]["BucketName"] == "bucket"

"""The generated settings of a DMS task. scenarios/dms_files tests files with the columns that they produce."""

from __future__ import annotations

import json

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError
from aurora_sync.model.dms_columns import BEFORE, NULL, SEQUENCE, TIMESTAMP, UNCHANGED
from aurora_sync.provisioning.dms_task import task_settings


def table(name: str, files: str = "s3://bucket/some/folder/", cdc_path: str | None = None) -> TableConfig:
    return TableConfig(table_name=name, watermark_type=WatermarkType.dms, files=files, cdc_path=cdc_path)


def test_settings_produce_the_columns_that_a_sync_reads() -> None:
    found = task_settings([table("orders")])
    assert json.loads(json.dumps(found)) == found
    target = found["S3Settings"]
    assert (target["BucketName"], target["BucketFolder"]) == ("bucket", "some/folder")
    assert (target["AddColumnName"], target["IncludeOpForFullLoad"], target["Rfc4180"]) == (True, True, True)
    assert (target["CsvNullValue"], target["CsvNoSupValue"], target["TimestampColumnName"]) == (
        NULL,
        UNCHANGED,
        TIMESTAMP,
    )
    rules = found["TableMappings"]["rules"]
    assert [rule["rule-action"] for rule in rules] == ["include", "add-column", "add-before-image-columns"]
    assert rules[1]["value"] == SEQUENCE
    assert rules[2]["before-image-def"]["column-prefix"] == BEFORE
    assert found["ReplicationTaskSettings"]["ErrorBehavior"]["DataErrorPolicy"] == "STOP_TASK"


def test_a_task_that_preserves_transactions_writes_no_header() -> None:
    found = task_settings([table("orders", cdc_path="all/changes")])["S3Settings"]
    assert (found["PreserveTransactions"], found["CdcPath"], found["AddColumnName"]) == (True, "all/changes", False)
    assert "TimestampColumnName" not in found
    with pytest.raises(ConfigError, match="the same cdc_path"):
        task_settings([table("a"), table("b", cdc_path="all/changes")])


def test_wildcards_in_names_are_escaped() -> None:
    rules = task_settings([table("a_b%"), table("c")])["TableMappings"]["rules"]
    assert rules[0]["object-locator"] == {"schema-name": "public", "table-name": "a[_]b[%]"}
    assert [rule["rule-id"] for rule in rules] == [str(number) for number in range(1, 7)]


def test_tables_of_two_folders_are_two_tasks() -> None:
    with pytest.raises(ConfigError, match="the same files"):
        task_settings([table("a"), table("b", "s3://bucket/other")])

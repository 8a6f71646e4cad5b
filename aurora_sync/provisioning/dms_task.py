"""Generate the settings of an AWS DMS task whose files are as complete as DMS allows.

The settings follow the documentation of DMS; docs/dms.md explains each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.model.dms_columns import BEFORE, NULL, SEQUENCE, TIMESTAMP, UNCHANGED

# In kilobytes. A longer value stops the task.
LOB_KB = 102_400


def task_settings(tables: Sequence[TableConfig]) -> dict[str, Any]:
    """Return the settings for the tables of one folder, as the API of DMS takes them.

    The keys are ``S3Settings`` (target endpoint), ``PostgreSQLSettings`` (source endpoint), ``ReplicationTaskSettings``
    and ``TableMappings``. Raises ConfigError if the tables differ in folder or ``cdc_path``.
    """
    folder, cdc_path = tables[0].files, tables[0].cdc_path
    if folder is None or any((table.files, table.cdc_path) != (folder, cdc_path) for table in tables):
        raise ConfigError("the tables of one DMS task must have the same files and the same cdc_path in tables.yaml")
    bucket, _, path = folder.removeprefix("s3://").partition("/")
    return {
        "S3Settings": {
            "BucketName": bucket,
            "BucketFolder": path.strip("/"),
            "DataFormat": "csv",
            "CompressionType": "GZIP",
            "Rfc4180": True,
            "AddColumnName": cdc_path is None,
            "IncludeOpForFullLoad": True,
            "CdcInsertsOnly": False,
            "CdcInsertsAndUpdates": False,
            **({"CdcPath": cdc_path} if cdc_path else {"TimestampColumnName": TIMESTAMP}),
            "UseTaskStartTimeForFullLoadTimestamp": True,
            "CsvNullValue": NULL,
            "UseCsvNoSupValue": True,
            "CsvNoSupValue": UNCHANGED,
            "PreserveTransactions": cdc_path is not None,
            "CdcMaxBatchInterval": 60,
        },
        "PostgreSQLSettings": {
            "MapUnboundedNumericAsString": True,
            "FailTasksOnLobTruncation": True,
            "HeartbeatEnable": True,
            "CaptureDdls": False,
        },
        "ReplicationTaskSettings": {
            "TargetMetadata": {
                "SupportLobs": True,
                "FullLobMode": False,
                "LimitedSizeLobMode": True,
                "LobMaxSize": LOB_KB,
                "BatchApplyEnabled": False,
            },
            "FullLoadSettings": {"TargetTablePrepMode": "DROP_AND_CREATE"},
            "ErrorBehavior": {
                "DataErrorPolicy": "STOP_TASK",
                "DataTruncationErrorPolicy": "STOP_TASK",
                "TableErrorPolicy": "STOP_TASK",
                "FailOnTransactionConsistencyBreached": True,
                "FailOnNoTablesCaptured": True,
            },
        },
        "TableMappings": {"rules": _rules(tables)},
    }


def _rules(tables: Sequence[TableConfig]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for table in tables:
        locator = {"schema-name": _literal(table.schema_), "table-name": _literal(table.table_name)}
        rules.append({"rule-type": "selection", "rule-action": "include", "object-locator": locator})
        column = {"rule-type": "transformation", "rule-target": "column", "object-locator": locator}
        rules.append(
            column
            | {
                "rule-action": "add-column",
                "value": SEQUENCE,
                "expression": "$AR_H_CHANGE_SEQ",
                "data-type": {"type": "string", "length": 35},
            }
        )
        before = {"column-prefix": BEFORE, "column-suffix": "", "column-filter": "pk-only"}
        locator_of_all = locator | {"column-name": "%"}
        rules.append(
            column
            | {
                "object-locator": locator_of_all,
                "rule-action": "add-before-image-columns",
                "before-image-def": before,
            }
        )
    return [{"rule-id": str(number), "rule-name": str(number)} | rule for number, rule in enumerate(rules, 1)]


def _literal(name: str) -> str:
    """Escape a name for a locator, where ``%`` and ``_`` are wildcards.

    >>> _literal("order_items")
    'order[_]items'
    """
    return "".join(f"[{letter}]" if letter in "%_[" else letter for letter in name)

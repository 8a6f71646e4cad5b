from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from aurora_sync.config.loader import from_mapping
from aurora_sync.config.schema import FILE, as_text, json_schema
from aurora_sync.config.tables import STRATEGY_KEYS
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError

VALID: list[dict[str, Any]] = [
    {"table_name": "t", "watermark_col": "updated_at"},
    {"table_name": "t", "watermark_type": "timestamp", "watermark_col": "c", "watermark_set_by": "application"},
    {"table_name": "t", "watermark_type": "integer", "watermark_col": "id", "lookback": 100},
    {"table_name": "t", "watermark_type": "composite", "watermark_cols": ["a", "b"], "watermark_col": None},
    {"table_name": "s.t", "watermark_type": "xmin", "append_only": True},
    {"table_name": "t", "watermark_type": "full_snapshot", "append_only": False, "lookback": None},
    {"table_name": "t", "watermark_type": "xmin", "primary_key": "id"},
    {"table_name": "t", "watermark_type": "xmin", "primary_key": ["a", "b"]},
    {"table_name": "audit_*", "exclude": "audit_old", "watermark_type": "xmin"},
    {"table_name": "t", "watermark_type": "xmin", "freshness": "2h"},
    {"table_name": "t", "watermark_type": "xmin", "freshness": {"fail_after": "1d", "warn_after": "30m"}},
    {"table_name": "t", "watermark_type": "xmin", "freshness": None, "schedule": None},
    {"table_name": "t", "watermark_type": "xmin", "schedule": "*/15 * * * mon-fri", "group": "a/b"},
    {"table_name": "t", "watermark_type": "xmin", "owners": ["team:data", "joe@example.com"]},
    {"table_name": "t", "watermark_type": "xmin", "tags": {"tier": "gold", "example.com/cost-center": ""}},
    {"table_name": "t", "watermark_type": "xmin", "columns": {"exclude": "secret_*"}, "column_types": {"c": "text"}},
    {"table_name": "t", "watermark_type": "xmin", "deletes": "soft", "delete_guard": {"max_share": 1}},
    {"table_name": "t", "watermark_type": "xmin", "checks": {"row_count": {"tolerance": 0.01, "severity": "warn"}}},
]
INVALID: list[dict[str, Any]] = [
    {},
    {"table_name": "t"},
    {"table_name": 5, "watermark_type": "xmin"},
    {"table_name": "", "watermark_type": "xmin"},
    {"table_name": "t", "watermark_type": "timestam"},
    {"table_name": "t", "watermark_type": "timestamp"},
    {"table_name": "t", "watermark_type": "integer", "watermark_col": None},
    {"table_name": "t", "watermark_type": "composite", "watermark_cols": ["a"]},
    {"table_name": "t", "watermark_type": "composite", "watermark_cols": ["a", "a"]},
    {"table_name": "t", "watermark_cols": ["a", "b"]},
    {"table_name": "t", "watermark_type": "xmin", "watermark_col": "id"},
    {"table_name": "t", "watermark_type": "full_snapshot", "watermark_cols": ["a", "b"]},
    {"table_name": "t", "watermark_col": "c", "lookback": 5},
    {"table_name": "t", "watermark_type": "integer", "watermark_col": "c", "lookback": 0},
    {"table_name": "t", "watermark_type": "integer", "watermark_col": "c", "lookback": "5"},
    {"table_name": "t", "watermark_type": "xmin", "watermark_set_by": "database"},
    {"table_name": "t", "watermark_type": "full_snapshot", "append_only": True},
    {"table_name": "t", "watermark_type": "xmin", "primary_key": []},
    {"table_name": "t", "watermark_type": "xmin", "primary_key": ["a", "a"]},
    {"table_name": "t", "watermark_type": "xmin", "primary_key": [1]},
    {"table_name": "t", "watermark_type": "xmin", "frehsness": "2h"},
    {"table_name": "t", "watermark_type": "xmin", "freshness": "0m"},
    {"table_name": "t", "watermark_type": "xmin", "freshness": "2 hours"},
    {"table_name": "t", "watermark_type": "xmin", "freshness": {"warn_after": "1h"}},
    {"table_name": "t", "watermark_type": "xmin", "schedule": "* * * *"},
    {"table_name": "t", "watermark_type": "xmin", "schedule": 5},
    {"table_name": "t", "watermark_type": "xmin", "owners": "team:data"},
    {"table_name": "t", "watermark_type": "xmin", "owners": ["joe"]},
    {"table_name": "t", "watermark_type": "xmin", "tags": {"a b": "c"}},
    {"table_name": "t", "watermark_type": "xmin", "tags": {"a": "x" * 64}},
    {"table_name": "t", "watermark_type": "xmin", "tags": {"a": 1}},
    {"table_name": "t", "watermark_type": "xmin", "group": "a b"},
    {"table_name": "t", "watermark_type": "xmin", "columns": {"include": []}},
    {"table_name": "t", "watermark_type": "xmin", "columns": {"only": ["a"]}},
    {"table_name": "t", "watermark_type": "xmin", "column_types": {"c": "json"}},
    {"table_name": "t", "watermark_type": "xmin", "delete_guard": {"max_share": 2}},
    {"table_name": "t", "watermark_type": "xmin", "checks": {"row_count": {"every": True}}},
    {"table_name": "t", "watermark_type": "xmin", "checks": {"watermark": {"tolerance": 0.1}}},
]


def loads(document: dict[str, Any]) -> bool:
    try:
        from_mapping(document, Path("tables.yaml"))
    except ConfigError:
        return False
    return True


def test_the_published_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == as_text(), "run python -m aurora_sync.config.schema"


def test_the_schema_is_a_valid_schema_in_which_every_key_is_described() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    for name, model in {**schema["$defs"], "the file": schema}.items():
        for variant in model.get("anyOf", [model]):
            for key, value in variant.get("properties", {}).items():
                assert "description" in value, f"{key} of {name}"


def test_every_key_of_a_watermark_type_is_a_key_of_a_table() -> None:
    assert {key for kind in WatermarkType for key in kind.keys.all} == set(STRATEGY_KEYS)


@pytest.mark.parametrize("entry", VALID)
def test_editor_and_loader_accept_the_same_entries(entry: dict[str, Any]) -> None:
    document = {"$schema": "tables.schema.json", "tables": [entry]}
    assert [error.message for error in Draft202012Validator(json_schema()).iter_errors(document)] == []
    assert loads(document)


@pytest.mark.parametrize("entry", INVALID)
def test_editor_and_loader_refuse_the_same_entries(entry: dict[str, Any]) -> None:
    document = {"tables": [entry]}
    assert not Draft202012Validator(json_schema()).is_valid(document)
    assert not loads(document)


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({"defaults": {"schema": "s", "freshness": "1d"}, "tables": VALID[4:5]}, True),
        ({"defaults": None, "tables": VALID[4:5]}, True),
        ({"defaults": {"watermark_type": "xmin"}, "tables": [{"table_name": "t"}]}, True),
        ({"defaults": {"watermark_col": "c"}, "tables": [{"table_name": "t"}, VALID[4]]}, True),
        ({"defaults": {"watermark_col": "c"}, "tables": [VALID[4] | {"watermark_col": "c"}]}, False),
        ({"defaults": {"append_only": True}, "tables": VALID[4:5]}, False),
        ({"defaults": {"watermark_type": "xmni"}, "tables": VALID[4:5]}, False),
        ({"tables": []}, False),
        ({"tables": VALID[4]}, False),
        ({"defaults": {}}, False),
        ({"tabels": [], "tables": VALID[4:5]}, False),
        ([], False),
    ],
)
def test_editor_and_loader_agree_on_the_file_as_a_whole(document: Any, valid: bool) -> None:
    assert Draft202012Validator(json_schema()).is_valid(document) is valid
    if isinstance(document, dict):
        assert loads(document) is valid

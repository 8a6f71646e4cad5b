"""The JSON Schema of tables.yaml, generated from the models. ``python -m aurora_sync.config.schema`` writes it to
tables.schema.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aurora_sync.config.tables_file import TablesFile

FILE = Path(__file__).with_name("tables.schema.json")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) with which an editor completes and checks tables.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TablesFile.model_json_schema()}


def as_text() -> str:
    """Return the content of tables.schema.json."""
    return json.dumps(json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")

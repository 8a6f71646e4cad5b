"""The query tag: what Snowflake's query history shows about a statement, besides its text.

The tag is one JSON object, so that a query of ``ACCOUNT_USAGE`` can group statements by table::

    {"app": "aurora_sync", "phase": "merge", "table": "public.orders", "target": "PUBLIC.ORDERS", "load_id": "5f0c…"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig

# Every tag begins like this, so that a query finds the statements of aurora_sync without parsing other tags.
PREFIX = '{"app": "aurora_sync"'
LONGEST = 2000  # characters; Snowflake's limit of QUERY_TAG


@dataclass(frozen=True)
class QueryTag:
    """The subject of a session, or of the statements that follow. ``phase`` is one of: look, load, merge, verify, read,
    check, gc, status, metrics, report, cost. The other fields are empty where they do not apply."""

    phase: str = ""
    table: str = ""  # as in tables.yaml: public.orders
    target: str = ""
    load_id: str = ""

    @classmethod
    def of(cls, config: TableConfig, phase: str, load_id: str = "") -> QueryTag:
        return cls(phase, config.qualified_name, ".".join(config.target), load_id)

    def __str__(self) -> str:
        """Return the JSON object, without empty fields, and with the last fields left out beyond Snowflake's limit.

        >>> str(QueryTag("gc"))
        '{"app": "aurora_sync", "phase": "gc"}'
        """
        fields = {"app": "aurora_sync"} | {name: value for name, value in vars(self).items() if value}
        while len(text := json.dumps(fields, ensure_ascii=False)) > LONGEST:
            fields.popitem()
        return text


NO_TAG = QueryTag()  # names the program only

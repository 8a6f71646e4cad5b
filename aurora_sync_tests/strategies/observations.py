"""Builders of tables, observations and watermarks: a test gives the values that it is about, the rest are defaults."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import adapt

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.fences import ClockFence, ClockOffset
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import ColumnSequence, SourceTable, Trigger
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync.strategies.base import Since

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
OFFSET = ClockOffset(0.0, 0.01)
TOKEN = Token("7000", 1, 18, 16384, "2026-01-01 00:00:00+00", False, 16400, {"16400": 16400})


def config(watermark_type: str, **keys: Any) -> TableConfig:
    return TableConfig.model_validate({"table_name": "t", "watermark_type": watermark_type} | keys)


def table(*columns: Column, **values: Any) -> SourceTable:
    return SourceTable("public", "t", 16400, values.pop("kind", "r"), columns, (), ("r",), **values)


def column(name: str, base_type: str, **values: Any) -> Column:
    return Column(name, 1, base_type, base_type, **values)


def identity(**values: Any) -> SourceTable:
    """Return a table whose id is GENERATED ALWAYS AS IDENTITY."""
    sequence = ColumnSequence("public.t_id_seq", cache=1, increment=1, cycle=False)
    defaults = {"sequences": {"id": sequence}}
    return table(column("id", "int8", not_null=True, identity="a"), **(defaults | values))


def touched(body: str = "NEW.at := now();", *, base_type: str = "timestamptz", **values: Any) -> SourceTable:
    """Return a table whose trigger function has this body."""
    source = f"BEGIN {body} RETURN NEW; END"
    trigger = Trigger("touch", before=True, row=True, on_insert=True, on_update=True, enabled=True, source=source)
    trigger = replace(trigger, **values.pop("trigger", {}))
    return table(column("at", base_type, not_null=True), triggers=(trigger,), **values)


def at(
    minute: int = 0, *, xmin: int = 1000, xmax: int | None = None, token: Any = None, clock: Any = None, **values: Any
) -> Observation:
    """Return an observation ``minute`` minutes after noon, without other transactions. ``clock``: fields of its clock
    fence."""
    now = NOON + timedelta(minutes=minute)
    defaults: dict[str, Any] = {"offset": OFFSET, "fence": replace(ClockFence(now, OFFSET), **(clock or {}))}
    snapshot = Snapshot(xmin, xmin if xmax is None else xmax, now)
    return Observation(snapshot, replace(TOKEN, **(token or {})), **(defaults | values))


def watermark(strategy: str, value: dict[str, Any], seen: Observation, covers: str = "") -> Watermark:
    """Return a watermark after a round trip through JSON, as the sync log returns it."""
    return Watermark.from_json(Watermark(strategy, value, seen.snapshot, seen.token, covers).to_json())


def since(strategy: str, value: dict[str, Any], seen: Observation, *, restarted: bool = False) -> Since:
    return Since(watermark(strategy, value, seen), restarted)


def rendered(part: sql.Composable | None) -> str:
    """Return the text of a predicate without a connection, which psycopg2 would need to quote literals."""
    if isinstance(part, sql.Composed):
        return "".join(rendered(piece) for piece in part.seq)
    if isinstance(part, sql.Literal):
        return str(adapt(part.wrapped))
    if isinstance(part, sql.Identifier):
        return ".".join(f'"{name}"' for name in part.strings)
    assert isinstance(part, sql.SQL), part
    return part.string

"""How changed rows of a table are found: one file per ``watermark_type``, and the tuple of all."""

from collections.abc import Iterable

from aurora_sync.config.tables import TableConfig
from aurora_sync.strategies.base import Strategy
from aurora_sync.strategies.composite import Composite
from aurora_sync.strategies.debezium import Debezium
from aurora_sync.strategies.dms import Dms
from aurora_sync.strategies.full_snapshot import FullSnapshot
from aurora_sync.strategies.integer import Integer
from aurora_sync.strategies.logical import Logical
from aurora_sync.strategies.outbox import ByOutbox
from aurora_sync.strategies.timestamp import Timestamp
from aurora_sync.strategies.xmin import Xmin

STRATEGIES: tuple[Strategy, ...] = (
    Timestamp(),
    Integer(),
    Xmin(),
    Composite(),
    FullSnapshot(),
    Logical(),
    Debezium(),
    Dms(),
    ByOutbox(),
)


def strategy_for(watermark_type: str) -> Strategy:
    """The strategy of that name; KeyError when there is none (tables.yaml is validated before)."""
    return {strategy.name: strategy for strategy in STRATEGIES}[watermark_type]


def strategy_of(config: TableConfig) -> Strategy:
    """The strategy of a table."""
    return strategy_for(config.watermark_type.value)


def tables_of(kind: type[Strategy], tables: Iterable[TableConfig]) -> list[TableConfig]:
    """Those tables whose strategy is of this kind."""
    return [table for table in tables if isinstance(strategy_of(table), kind)]

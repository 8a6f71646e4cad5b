"""The strategies, which find the changed rows of a table: one file per ``watermark_type``, and the tuple of all."""

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
_BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}


def strategy_for(watermark_type: str) -> Strategy:
    """Return the strategy of this name. Raises KeyError when there is none (tables.yaml is validated before)."""
    return _BY_NAME[watermark_type]


def strategy_of(config: TableConfig) -> Strategy:
    """Return the strategy of a table."""
    return strategy_for(config.watermark_type.value)


def tables_of(kind: type[Strategy], tables: Iterable[TableConfig]) -> list[TableConfig]:
    """Return the tables whose strategy is an instance of ``kind``."""
    return [table for table in tables if isinstance(strategy_of(table), kind)]

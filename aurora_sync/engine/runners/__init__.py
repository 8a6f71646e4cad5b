"""The four runners and the strategy that each serves: one table by SELECT, a replication slot, a topic, files."""

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.runners.base import Runner
from aurora_sync.engine.runners.files import FilesRunner
from aurora_sync.engine.runners.slot import SlotRunner
from aurora_sync.engine.runners.table import TableRunner
from aurora_sync.engine.runners.topic import TopicRunner
from aurora_sync.strategies import strategy_of
from aurora_sync.strategies.base import Strategy
from aurora_sync.strategies.debezium import Debezium
from aurora_sync.strategies.dms import Dms
from aurora_sync.strategies.logical import Logical

_TABLE = TableRunner()
_STREAMS: dict[type[Strategy], Runner] = {Logical: SlotRunner(), Debezium: TopicRunner(), Dms: FilesRunner()}
RUNNERS = (_TABLE, *_STREAMS.values())


def runner_of(config: TableConfig) -> Runner:
    """Return the runner of a table: that of its stream, or TableRunner for every strategy that reads the table
    itself."""
    return _STREAMS.get(type(strategy_of(config)), _TABLE)

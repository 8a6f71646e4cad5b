"""The four ways to run, and which strategy goes by which: a table by SELECT, the tables of a slot, a topic, files."""

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
    """The runner of a table: what its strategy reads by a SELECT of its own needs none but the first."""
    return _STREAMS.get(type(strategy_of(config)), _TABLE)

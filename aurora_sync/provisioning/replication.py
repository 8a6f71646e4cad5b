"""Create and drop what a change stream needs at the source: replica identities, the publication, the slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.survey import SetupStep, survey
from aurora_sync.errors import ConfigError
from aurora_sync.model.receipt import Slot
from aurora_sync.source.connection import connect, write
from aurora_sync.source.logical.publication import Publication
from aurora_sync.strategies import strategy_of


def set_up(dsn: str, configs: Sequence[TableConfig], *, timeout: str) -> list[SetupStep]:
    """Create what the tables of one slot lack, step by step, and return the steps. Safe to kill and to call again.

    Raises ConfigError before any change if a step has to be done by a person. Raises SourceError.
    """
    with connect(dsn) as connection:
        found = survey(connection, configs, stream_from=dsn)
        if by_hand := [f"{step.what}: {step.because}" for step in found.steps if step.statement is None]:
            raise ConfigError(by_hand, where=f"replication slot {found.slot_name}")
        with connection.cursor() as cursor:
            for statement in [step.statement for step in found.steps if step.statement]:
                write(cursor, statement, statement_timeout=timeout)
        return list(found.steps)


def set_up_all(dsn: str, configs: Iterable[TableConfig], *, timeout: str = "1min") -> list[SetupStep]:
    """Set up every slot of the tables; see :func:`set_up`."""
    slots = defaultdict[str, list[TableConfig]](list)
    for config in configs:
        if strategy_of(config).uses_slot:
            slots[config.slot_name].append(config)
    return [step for tables in slots.values() for step in set_up(dsn, tables, timeout=timeout)]


def teardown(name: str, found: Slot | None, published: Publication | None) -> list[SetupStep]:
    """Return the steps that drop slot and publication. Replica identities stay: other software may rely on them."""
    steps = []
    if found:
        drop = sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name))
        steps.append(SetupStep(f"drop replication slot {name}", drop, "the server keeps WAL for the slot"))
    if published:
        drop = sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name))
        steps.append(SetupStep(f"drop publication {name}", drop, "only the slot uses the publication"))
    return steps

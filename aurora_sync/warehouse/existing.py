"""What a run refuses about a target that exists already. `aurora-sync check` reports it beforehand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError, WarehouseError
from aurora_sync.model.names import TargetNames, differing_by_case
from aurora_sync.warehouse import ddl, evolve, located, policies, sync_log
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import DELETED, RUN_SEQ, SRC_XMIN, SYNCED_AT, TableName


def problems(session: Session, config: TableConfig, synced: Collection[str], log_schema: str) -> Iterator[str]:
    """Yield what the next run would refuse about the target, as far as it does not depend on staged rows. ``synced``
    are the names of the synced columns at the source."""
    target, columns = located.find_target(session, config)
    if not columns:
        return
    checks = [partial(evolve.refuse_foreign, target, columns, config.qualified_name)]
    if RUN_SEQ in columns:
        spelled = TargetNames(config.names, tuple(columns), differing_by_case(synced))
        names = [*map(spelled.of, synced), SRC_XMIN, RUN_SEQ, SYNCED_AT]
        checks = [
            partial(policies.refuse_collated, target, names, columns),
            partial(
                refuse_foreign_rows, session, target, log_schema, marks=DELETED in columns, where=config.qualified_name
            ),
        ]
    for check in checks:
        try:
            check()
        except AuroraSyncError as error:
            yield str(error)


def refuse_foreign_rows(session: Session, target: TableName, log_schema: str, *, marks: bool, where: str) -> None:
    """Raise WarehouseError if the table has rows that no run in the log wrote. An empty table may be from an attempt of
    ours that never committed."""
    has_log = bool(ddl.existing_columns(session, sync_log.log_table(log_schema)))
    if has_log and sync_log.find(session, target, 1, log_schema):
        return
    if sync_log.count(session, target, marks=marks).rows:
        raise WarehouseError(
            f"{target} has rows, but the sync log in {log_schema} has no run that wrote them",
            where=where,
            hint="drop or rename the target to load it in full, or set AURORA_SYNC_SCHEMA to the schema of its log",
        )

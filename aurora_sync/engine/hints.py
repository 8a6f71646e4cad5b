"""The state of a table's target: from the sync log, or from a hint, which lets an idle run skip the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError, StageError, values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.receipt import QueryRef
from aurora_sync.model.state import State
from aurora_sync.stage.manifest import Hint
from aurora_sync.warehouse import policies, resume
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import TableName
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

# How long an idle table may rely on the hint alone. After that the run looks whether the target still has the size that
# was noted beside the hint, which needs no virtual warehouse. If not, it reads the sync log and the counts of the
# target, so that a target that was restored or edited by hand is noticed.
HEARTBEAT = timedelta(hours=1)


@dataclass(frozen=True)
class Known:
    """The state of a target. ``hinted`` is when the hint was confirmed, if the state comes from a hint; None when the
    sync log was read. ``queries`` are the statements that read it, in Snowflake."""

    state: State
    hinted: datetime | None = None
    queries: tuple[QueryRef, ...] = ()


def read_state(config: TableConfig, places: Places, *, trust_hint: bool) -> Known:
    """Return the state of the table's target. Changes nothing. Raises WarehouseError when a policy of the target would
    make a run incorrect."""
    hint = _hint(config, places) if trust_hint else None
    if hint and _is_fresh(hint):
        return Known(hint.state, hint.confirmed_at)
    with places.warehouse.reading(query_tag=QueryTag.of(config, "look")) as session:
        return _read(session, config, places, hint, trust_hint)


def read_states(configs: Sequence[TableConfig], places: Places) -> list[Known | AuroraSyncError]:
    """Return the states of the targets of several tables, trusting hints, by one session; for a table whose state
    cannot be read, the error. Raises WarehouseError when the session cannot be opened."""
    with ExitStack() as opened:
        session: Session | None = None
        found: list[Known | AuroraSyncError] = []
        for config in configs:
            try:
                with values_shown(config.show_values):
                    hint = _hint(config, places)
                    if hint and _is_fresh(hint):
                        found.append(Known(hint.state, hint.confirmed_at))
                        continue
                    session = session or opened.enter_context(places.warehouse.reading())
                    session.about(QueryTag.of(config, "look"))
                    found.append(_read(session, config, places, hint, trust_hint=True))
            except AuroraSyncError as error:
                found.append(error)
        return found


def _hint(config: TableConfig, places: Places) -> Hint | None:
    """Return the hint of a table, which only a warehouse has whose queries cost money."""
    hint = places.stage.hint(_hint_name(config)) if places.warehouse.metered else None
    return None if hint and hint.state.load else hint  # each chunk of a load changes the state, and leaves no hint


def _is_fresh(hint: Hint) -> bool:
    return abs(datetime.now(UTC) - hint.confirmed_at) < HEARTBEAT


def _read(session: Session, config: TableConfig, places: Places, hint: Hint | None, trust_hint: bool) -> Known:
    """Read the state of a target from the warehouse; a hint is confirmed if the target still has its size."""
    before = len(session.queries())
    target = TableName(*((hint.state.target if hint else None) or config.written_target))
    # The size comes first: it must not be younger than the counts that it stands for.
    size = session.size(target.schema, target.name) if hint else None
    if hint and size and hint.state.size == size:
        return Known(hint.state)
    state = resume.read_state(session, config, log_schema=places.log_schema)
    if trust_hint and places.warehouse.metered and state.run_sequence:
        for finding in policies.look(session, config):
            logger.info("%s: %s", config.qualified_name, finding.text)
    return Known(replace(state, size=size if state.watermark else None), queries=session.queries()[before:])


def _hint_name(config: TableConfig) -> str:
    """Return the name of the hint. It names the target: two entries of tables.yaml may sync one table to two
    targets."""
    return f"{config.qualified_name} to {'.'.join(config.target)}"


def leave_hint(
    config: TableConfig, places: Places, state: State, uri: str | None, hinted: datetime | None
) -> tuple[str, ...]:
    """Write a hint for the next run if the warehouse is metered, and return warnings. The increment is already applied,
    so a failure is a warning."""
    if not places.warehouse.metered:
        return ()
    try:
        places.stage.confirm(_hint_name(config), state, uri, since=hinted)
    except StageError as error:
        logger.warning("%s: the hint in S3 could not be written: %s", config.qualified_name, error)
        return (f"the hint in S3 for the next run could not be written: {error}",)
    return ()

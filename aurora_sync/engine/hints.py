"""Where the target of a table stands: in the sync log, and in the hint that spares an idle run the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.errors import StageError
from aurora_sync.model import foreign_text
from aurora_sync.model.state import State
from aurora_sync.warehouse import sync_log

logger = foreign_text.logger(__name__)

# How long an idle table may go on from the hint alone. After that its sync log is read again, so that a target
# that was restored or edited by hand is noticed; each such look may start a warehouse, billed for a minute.
HEARTBEAT = timedelta(hours=1)


def read_state(config: TableConfig, places: Places, *, trust_hint: bool) -> tuple[State, datetime | None]:
    """Where the table's target stands; and, if only a hint says so, since when. Reads, and changes nothing."""
    hint = places.stage.hint(_hint_name(config)) if trust_hint and places.warehouse.metered else None
    if hint and abs(datetime.now(UTC) - hint.confirmed_at) < HEARTBEAT:
        return hint.state, hint.confirmed_at
    with places.warehouse.session(query_tag=f"aurora_sync {config.qualified_name}") as session:
        return sync_log.read_state(session, config, log_schema=places.log_schema), None


def _hint_name(config: TableConfig) -> str:
    """Hints belong to a target: two entries of tables.yaml may sync one table into two."""
    return f"{config.qualified_name} to {'.'.join(config.target)}"


def leave_hint(
    config: TableConfig, places: Places, state: State, uri: str | None, hinted: datetime | None
) -> tuple[str, ...]:
    """Leave a hint for the next run, where it would use one. The increment is applied whatever becomes of it: a failure
    is a warning."""
    if not places.warehouse.metered:
        return ()
    try:
        places.stage.confirm(_hint_name(config), state, uri, since=hinted)
    except StageError as error:
        logger.warning("%s: no hint was left: %s", config.qualified_name, error)
        return (f"no hint was left for the next run: {error}",)
    return ()

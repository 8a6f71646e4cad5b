"""The state of a table's target: from the sync log, or from a hint, which lets an idle run skip the warehouse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.errors import StageError
from aurora_sync.model import foreign_text
from aurora_sync.model.receipt import QueryRef
from aurora_sync.model.state import State
from aurora_sync.warehouse import policies, resume
from aurora_sync.warehouse.ddl import TableName
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

# How long an idle table may rely on the hint alone. After that the run looks whether the target still has the size that
# was noted beside the hint, which needs no virtual warehouse. If not, it reads the sync log and the counts of the
# target, so that a target that was restored or edited by hand is noticed.
HEARTBEAT = timedelta(hours=1)


def read_state(
    config: TableConfig, places: Places, *, trust_hint: bool, queries: list[QueryRef]
) -> tuple[State, datetime | None]:
    """Return the state of the table's target; and, when it comes from a hint only, the time the hint was confirmed.
    Adds its statements to ``queries``; changes nothing else. Raises WarehouseError when a policy of the target would
    make a run incorrect."""
    hint = places.stage.hint(_hint_name(config)) if trust_hint and places.warehouse.metered else None
    if hint and hint.state.load:
        hint = None  # each chunk changes the state, and leaves no hint
    if hint and abs(datetime.now(UTC) - hint.confirmed_at) < HEARTBEAT:
        return hint.state, hint.confirmed_at
    target = TableName(*((hint.state.target if hint else None) or config.written_target))
    with places.warehouse.reading(query_tag=QueryTag.of(config, "look")) as session:
        # The size comes first: it must not be younger than the counts that it stands for.
        size = session.size(target.schema, target.name) if hint else None
        if hint and size and hint.state.size == size:
            return hint.state, None
        state = resume.read_state(session, config, log_schema=places.log_schema)
        if trust_hint and places.warehouse.metered and state.run_sequence:
            for finding in policies.look(session, config):
                logger.info("%s: %s", config.qualified_name, finding.text)
        queries += session.queries()
        return replace(state, size=size if state.watermark else None), None


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

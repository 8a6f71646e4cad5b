"""One chunk of a load (load.py): read it in a snapshot of its own, stage it, and put it into the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.hints import Known
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions
from aurora_sync.errors import AuroraSyncError, SourceError, StageError, WarehouseError, values_shown
from aurora_sync.model import foreign_text, tracing
from aurora_sync.model.certificate import Certificate, Level
from aurora_sync.model.load import Chunk, Load
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.state import State
from aurora_sync.source import canary, chunks
from aurora_sync.source.copy_out import Progress
from aurora_sync.strategies import identity, loading
from aurora_sync.strategies import schema_changes as schema
from aurora_sync.warehouse import load as transactions
from aurora_sync.warehouse import resume
from aurora_sync.warehouse.ddl import target_name
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

OnProgress = Callable[[Progress], None] | None

# Newest attempts among which chunks are looked for that were staged and not loaded.
MOST_STAGED = 16


class BeginsAgainError(AuroraSyncError):
    """Ends the chunks of a load that must begin again, because the source changed."""


def loading_state(config: TableConfig, places: Places) -> State | None:
    """Return the state of a table that is being loaded, from the newest entry of the sync log; None when no load is
    open."""
    with places.warehouse.reading(query_tag=QueryTag.of(config, "look")) as session:
        return resume.loading_state(session, target_name(config), places.log_schema)


@dataclasses.dataclass(frozen=True)
class LoadedChunk:
    rows: int
    bytes: int  # of the staged files
    seconds: float  # of the export


def load_chunk(
    config: TableConfig,
    places: Places,
    load_id: str,
    number: int,
    on_progress: OnProgress = None,
    *,
    reuses: bool = False,
) -> LoadedChunk | None:
    """Load one chunk. Returns None when it was loaded before. ``reuses``: if another process has staged the chunk and
    was killed, it is not read again.

    Raises BeginsAgainError when the source changed so that the load must begin again, or the load has ended.
    """
    state = loading_state(config, places)
    load = state.load if state else None
    if state is None or load is None or load.id != load_id:
        raise BeginsAgainError("the load has ended, or began again", where=config.qualified_name)
    if load.has(number):
        return None
    with values_shown(config.show_values):
        chunk = staged(config, places, load).get(number) if reuses else None
        if chunk is None or not apply_staged(places, chunk, on_progress):
            chunk = export_chunk(config, places, state, number, on_progress)
            if not apply_chunk(places, chunk, on_progress):
                return None
    manifest = chunk.manifest
    assert manifest.chunk
    return LoadedChunk(manifest.rows, manifest.bytes, manifest.chunk.seconds)


@tracing.span("export")
def export_chunk(
    config: TableConfig, places: Places, state: State, number: int, on_progress: OnProgress = None
) -> StagedIncrement:
    """Read one chunk in a snapshot of its own, and stage it."""
    started = monotonic()
    watermark = state.watermark
    assert watermark
    assert watermark.load
    load = watermark.load
    options = RunOptions(max_minutes=config.load.max_chunk_minutes)
    with _limited_as_a_chunk(), looking(config, places, options, known=Known(state)) as found:
        plan, reading = found.plan, found.reading
        if plan.load is None:
            raise BeginsAgainError("; ".join(plan.reasons), where=config.qualified_name)
        columns = schema.still_synced(watermark, plan.columns, plan.at)
        where = loading.rows(watermark, chunks.within(load.blocks(number)), plan.at)
        statement = reading.statement(columns, where, blocks=load.blocks(number))
        with places.stage.attempt(config.qualified_name, found.load_id) as attempt:
            exported = reading.export(statement, attempt, _within(load, reading.table.row_estimate, on_progress))
            adjusted = reading.long_values(columns, plan.key, where, longest_row=exported.longest)
            rows = reading.newest(exported, statement, plan.at.snapshot)
            newest = canary.pick(rows, columns, plan.key, plan.at.snapshot, identity.CANARIES)
    canaries = loading.canaries(watermark, plan.at, newest)
    manifest = manifest_of(found, found.manifest(prefix=attempt.prefix, files=attempt.files), load)
    chunk = Chunk(
        number,
        newest=plan.at.snapshot.xmax,
        seconds=monotonic() - started,
        merges=loading.merges(plan.verdict),
        adjusted=tuple((each.column, each.policy, each.values) for each in adjusted),
    )
    watermark = dataclasses.replace(watermark, canaries=canaries)
    manifest = dataclasses.replace(manifest, columns=columns, watermark_after=watermark, chunk=chunk)
    places.stage.commit(manifest)
    return StagedIncrement(config, manifest, plan.strategy.name)


@contextmanager
def _limited_as_a_chunk() -> Iterator[None]:
    """Name the limit of a chunk in the advice of an error, and not that of a run."""
    try:
        yield
    except SourceError as error:
        error.hint = error.hint.replace("max_snapshot_minutes", "load: max_chunk_minutes")
        raise


def apply_chunk(places: Places, chunk: StagedIncrement, on_progress: OnProgress = None) -> bool:
    """Put a staged chunk into the target. Returns False when it is there already."""
    config, manifest = chunk.config, chunk.manifest
    assert manifest.chunk

    def begin_phase(phase: str) -> None:
        if on_progress:
            on_progress(Progress(manifest.rows, manifest.bytes, 0.0, None, phase))

    with places.warehouse.session(query_tag=QueryTag.of(config, "load", manifest.load_id)) as session:
        applied = transactions.apply_chunk(session, chunk, places.stage.store, places.log_schema, begin_phase)
    if applied:
        logger.info("%s: chunk %d is loaded, %d rows", config.qualified_name, manifest.chunk.number, manifest.rows)
    return applied is not None


def staged(config: TableConfig, places: Places, load: Load) -> dict[int, StagedIncrement]:
    """Return the chunks, by number, that are staged completely, and were not in the target when ``load`` was read."""
    newest = places.stage.newest_manifests(config.qualified_name, max(MOST_STAGED, 2 * config.load.parallel))
    found = {}
    for manifest in newest:
        theirs = manifest.watermark_after.load
        if manifest.chunk and theirs and theirs.id == load.id and not load.has(manifest.chunk.number):
            found[manifest.chunk.number] = StagedIncrement(config, manifest, config.watermark_type.value)
    return found


def apply_staged(places: Places, chunk: StagedIncrement, on_progress: OnProgress = None) -> bool:
    """Put a chunk into the target that another process had staged. Returns False when it must be read again."""
    assert chunk.manifest.chunk
    table, number = chunk.config.qualified_name, chunk.manifest.chunk.number
    logger.info("%s: chunk %d is staged already", table, number)
    try:
        apply_chunk(places, chunk, on_progress)
    except (StageError, WarehouseError) as error:
        logger.warning("%s: chunk %d is read again: %s", table, number, error)
        return False
    return True


def manifest_of(found: Look, manifest: Manifest, load: Load) -> Manifest:
    """Return the manifest of a part of a load: its certificate says that the target is not complete."""
    disposition = Disposition.UPSERT if manifest.key else Disposition.APPEND
    return dataclasses.replace(manifest, disposition=disposition, certificate=certificate(load, found.plan.certificate))


def certificate(load: Load, of_plan: Certificate) -> Certificate:
    """Return the certificate of a target that is being loaded."""
    text = f"a load in {load.chunks:,} chunks is not finished: the target lacks rows"
    return dataclasses.replace(of_plan, level=Level.UNCERTIFIED, changes=(), text=text, reconciled=None)


def _within(load: Load, estimate: int, on_progress: OnProgress) -> OnProgress:
    """Return a function that reports the progress of a chunk as that of the whole load."""
    if on_progress is None:
        return None

    def report(progress: Progress) -> None:
        rows = load.rows + progress.rows
        share = min(rows / estimate, 1.0) if estimate else None
        on_progress(dataclasses.replace(progress, rows=rows, share=share))

    return report

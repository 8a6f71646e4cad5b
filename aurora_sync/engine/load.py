"""The whole of a large table, read in chunks: begin, chunks, passes. The last run is one of sync.py.

::

    begin: snapshot S0 ─► sync log {watermark of S0, no chunk yet}
    chunk: a short snapshot ─► rows of its blocks with an id below the horizon of S0 ─► S3
           ─► one transaction {rows, sync log row: this chunk is loaded}        any order, several processes
    pass:  rows written since S0 ─► one transaction, as an increment            where the chunks took long
    last:  an increment since S0 that compares every version with the source    engine/sync.py

strategies/loading.py has the proof. The sync log is the record of the load, so a load goes on after a kill at any
point, in another process and on another day, with the chunks that are left. A chunk that two processes load at once is
in the target once.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

from aurora_sync.config.load import FEWEST_CHUNKS
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, one_chunk
from aurora_sync.engine.attempts import Start, repeated
from aurora_sync.engine.finish import Outcome
from aurora_sync.engine.lease import Lease, LeaseError
from aurora_sync.engine.load_processes import in_processes
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.one_chunk import BeginsAgainError, OnProgress
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions
from aurora_sync.errors import Kind, SourceError, values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.load import Load
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.state import State
from aurora_sync.source import chunks
from aurora_sync.source.copy_out import Progress
from aurora_sync.stage.layout import new_load_id
from aurora_sync.warehouse import load as transactions
from aurora_sync.warehouse.located import find_target
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

# What was written while the chunks were loaded is read before the last run if it is older than this, so that the last
# run has little left to read: it compares as well, and holds one snapshot for both.
PASS_AFTER = timedelta(minutes=15)
MOST_PASSES = 3
MOST_BEGINS = 3  # in one run


def chunk_bounds(found: Look, options: RunOptions) -> tuple[int, ...]:
    """Return the first block of each chunk of the whole read that is planned; nothing when it is not one in chunks."""
    plan, wanted = found.plan, found.config.load.chunk_bytes
    if plan.read.disposition is not Disposition.REPLACE or plan.load or options.verify or not can_be_chunked(found):
        return ()
    sizes = found.reading.sizes(plan.at.token.members)
    large = sum(size for _, size in sizes) >= FEWEST_CHUNKS * wanted
    return chunks.bounds(sizes, wanted) if large else ()


def can_be_chunked(found: Look) -> bool:
    """Return whether a whole read of the table may be one in chunks, whatever its size."""
    plan, config = found.plan, found.config
    if plan.strategy.reads_whole or config.history or not found.reading.table.is_heap:
        return False  # every run reads all; a history begins with one snapshot; no blocks to read
    if plan.at.token.major < chunks.HAS_RANGE_SCANS:
        return False
    if config.append_only:  # appended to rows of its own, a row would be there twice
        return plan.read.where is not None and (_is_empty(found.state) or _only_chunks(found.state))
    return bool(plan.key)


def _is_empty(state: State) -> bool:
    return not state.run_sequence or (state.watermark is not None and not state.target_rows)


def _only_chunks(state: State) -> bool:
    """Return whether the target has no other rows than those of an unfinished load."""
    return state.load is not None and not state.load.replaces


def is_unfinished(found: Look) -> bool:
    """Return whether chunks of the load are left to read."""
    return bool(found.plan.load and found.plan.load.left)


def pass_is_due(found: Look) -> bool:
    load, watermark = found.plan.load, found.state.watermark
    if load is None or watermark is None or found.plan.read.disposition is not Disposition.UPSERT:
        return False
    return load.passes < MOST_PASSES and found.plan.at.snapshot.taken_at - watermark.snapshot.taken_at > PASS_AFTER


def assert_ends(found: Look, begun: int) -> None:
    """Raise SourceError when a load begins again too often in one run; ``begun`` counts this time."""
    if begun > MOST_BEGINS:
        raise SourceError(
            f"the load in chunks began {MOST_BEGINS} times in this run, and must begin again:"
            f" {'; '.join(found.plan.reasons)}",
            where=found.config.qualified_name,
            hint="end what changes the table, and run again",
            kind=Kind.TRANSIENT,
        )


def begin(found: Look, places: Places, bounds: tuple[int, ...]) -> None:
    """Record the begin of a load in the sync log, with the first block of each chunk. Afterwards the target is marked
    as loading."""
    plan, state, config = found.plan, found.state, found.config
    load = Load(
        id=found.load_id,
        first_run=state.run_sequence + 1,
        began=plan.at.snapshot.taken_at.isoformat(),
        bounds=bounds,
        newest=plan.at.snapshot.xmax,
    )
    found.close_snapshot()
    with places.stage.attempt(config.qualified_name, found.load_id) as attempt:
        manifest = one_chunk.manifest_of(found, found.manifest(prefix=attempt.prefix, files=()), load)
    manifest = dataclasses.replace(manifest, watermark_after=plan.watermark.loading(load), evolution=plan.evolution)
    places.stage.commit(manifest)
    increment = StagedIncrement(config, manifest, plan.strategy.name)
    with places.warehouse.session(query_tag=QueryTag.of(config, "load", found.load_id)) as session:
        sequence = transactions.begin(
            session, increment, places.stage.store, places.log_schema, empty=_only_chunks(state)
        )
    # A hint of the state before would let the next run believe that the table is as it was.
    after = State(sequence, manifest.watermark_after, found.load_id, applied_at=datetime.now(UTC))
    hints.leave_hint(config, places, after, None, None)
    logger.info("%s: a load in %d chunks begins", config.qualified_name, load.chunks)


def paused(found: Look, why: str) -> Outcome:
    """Return the outcome of a run that ends before the last chunk; ``why`` in words."""
    load, watermark = found.plan.load, found.state.watermark
    assert load
    assert watermark
    manifest = dataclasses.replace(
        one_chunk.manifest_of(found, found.manifest(prefix="", files=()), load), watermark_after=watermark
    )
    text = f"{load.chunks_done:,} of {load.chunks:,} chunks are loaded: {why}"
    return Outcome(manifest=manifest, applied=None, uri=None, watch=found.watch, warnings=(text,))


def load_chunks(config: TableConfig, places: Places, on_progress: OnProgress = None) -> str:
    """Load the chunks that are left. Returns why some are still left, in words: another process loads the table, or its
    window closed. Empty when none is, or when the load must begin again."""
    try:
        with Lease(places.stage.store, config) as lease:
            state = _after_staged(config, places, one_chunk.loading_state(config, places))
            if state is None:
                return ""
            if on_progress:
                on_progress(Progress(0, 0, 0.0, None, "chunks"))
            in_order = _in_processes if config.load.parallel > 1 else _in_this_process
            done = in_order(config, places, state, lease, on_progress)
            return "" if done else goes_on(config)
    except LeaseError as error:
        return error.what
    except BeginsAgainError as error:
        logger.warning("%s", error)
        return ""


def open_load(config: TableConfig, places: Places, *, full: bool = False) -> Load | None:
    """Return the load that is open, or begin one; ``full`` begins one although the target is complete. Returns None
    when the table is not read in chunks now. The caller holds the lease."""

    def once(start: Start) -> Load | None:
        options = start.options_of(config.qualified_name)
        with looking(config, places, options) as found:
            bounds = chunk_bounds(found, options)
            if not bounds:
                return found.plan.load
            begin(found, places, bounds)
        state = one_chunk.loading_state(config, places)
        return state.load if state else None

    with values_shown(config.show_values):
        return repeated(once, RunOptions(full), config.qualified_name)


def abort(config: TableConfig, places: Places) -> Load | None:
    """End the load that is open, and return its progress; None when no load is open. The next run reads the whole table
    again. The rows of the load leave the target, unless it had rows before. Raises LeaseError when another process
    loads the table."""
    with Lease(places.stage.store, config):
        state = one_chunk.loading_state(config, places)
        if state is None:
            return None
        with places.warehouse.session(query_tag=QueryTag.of(config, "load")) as session:
            target, columns = find_target(session, config)
            transactions.abort(session, target, places.log_schema, new_load_id(), exists=bool(columns))
        return state.load


def _after_staged(config: TableConfig, places: Places, state: State | None) -> State | None:
    """Put chunks into the target that a killed loader had staged completely, and return the state."""
    if state is None or state.load is None:
        return None
    for chunk in one_chunk.staged(config, places, state.load).values():
        one_chunk.apply_staged(places, chunk)
    return one_chunk.loading_state(config, places)


def _in_this_process(config: TableConfig, places: Places, state: State, lease: Lease, on_progress: OnProgress) -> bool:
    """Load the chunks in order. The next one is read while the warehouse takes the one before."""
    assert state.load
    left = state.load.left
    waiting: StagedIncrement | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="export-chunk") as pool, values_shown(config.show_values):
        for number in left:
            lease.assert_held()
            closed = window_closed(config, state)
            exporting: Future[StagedIncrement] | None = None
            if not closed:
                export = partial(one_chunk.export_chunk, config, places, state, number, on_progress)
                exporting = pool.submit(copy_context().run, export)
            if waiting:
                one_chunk.apply_chunk(places, waiting, on_progress)
            waiting = exporting.result() if exporting else None
            if closed:
                return False
            state = _after(state, waiting)
        if waiting:
            one_chunk.apply_chunk(places, waiting, on_progress)
    return True


def _after(state: State, chunk: StagedIncrement | None) -> State:
    """Return the state with one more chunk: a measure of what the next one takes, and the newest rows so far."""
    watermark = state.watermark
    if chunk is None or watermark is None or watermark.load is None:
        return state
    manifest = chunk.manifest
    assert manifest.chunk
    load = watermark.load.after(manifest.chunk, rows=manifest.rows, size=manifest.bytes)
    watermark = dataclasses.replace(watermark.loading(load), canaries=manifest.watermark_after.canaries)
    return dataclasses.replace(state, watermark=watermark)


def _in_processes(config: TableConfig, places: Places, state: State, lease: Lease, on_progress: OnProgress) -> bool:
    """Load the chunks in several processes. Each process reads a chunk and puts it into the target."""
    assert state.load
    load, begun = state.load, monotonic()

    def is_closed(usual: float) -> bool:
        lease.assert_held()
        return window_closed(config, state, usual)

    def report(loaded: int) -> None:
        if on_progress:
            on_progress(Progress(0, 0, monotonic() - begun, (load.chunks_done + loaded) / load.chunks))

    return in_processes(config, load.left, partial(one_chunk.load_chunk, config, places, load.id), is_closed, report)


def window_closed(config: TableConfig, state: State, usual: float = 0.0) -> bool:
    """Return whether no chunk may begin now, because it would not end in the window of the table: a chunk takes
    ``usual`` seconds; by default, those of the chunks before."""
    load = state.load
    if not usual and load and load.chunks_done:
        usual = load.seconds / load.chunks_done
    left = config.load.left_of_window(datetime.now(UTC))
    return left is not None and left <= timedelta(seconds=usual)


def goes_on(config: TableConfig) -> str:
    """Return when chunks may be read again, in words."""
    return f"the load goes on at {config.load.opens}"

"""The beginning of every run: read the state of the target, take a snapshot of the source, and plan the run in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, preflight
from aurora_sync.engine.hints import Known
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_increment
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import state_as_found
from aurora_sync.errors import ConfigError
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import QueryRef
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Canary
from aurora_sync.source.reading import Reading
from aurora_sync.stage.layout import new_load_id
from aurora_sync.strategies import identity


@dataclass(kw_only=True)
class Look:
    """One table as a run found it. ``hinted`` is when the hint was confirmed, if the state comes from a hint; None when
    the sync log was read. ``reading`` holds the snapshot while it is open; ``source`` closes it."""

    config: TableConfig
    state: State
    hinted: datetime | None
    reading: Reading
    plan: Plan
    load_id: str
    source: ExitStack
    watch: Stopwatch = field(default_factory=Stopwatch)
    queries: list[QueryRef] = field(default_factory=list)  # that read the state, in Snowflake

    def close_snapshot(self) -> None:
        """Close the snapshot, because an open one delays vacuum. A verification keeps it open and compares in it."""
        if not self.plan.verifies:
            self.source.close()

    def manifest(self, newest: tuple[Canary, ...] = (), **what: Any) -> Manifest:
        """Return the manifest of this run's increment. ``what`` adds its files and the other facts that only this
        increment has."""
        plan, state = self.plan, self.state
        return Manifest(
            **what,
            table=self.config.qualified_name,
            load_id=self.load_id,
            disposition=plan.read.disposition,
            columns=plan.columns,
            comment=plan.comment,
            key=plan.key,
            watermark_before=state.watermark,
            watermark_after=plan.after(identity.canaries(state.watermark, plan.at, newest)),
            expected_sequence=state.run_sequence,
            expected_load_id=state.load_id,
            certificate=plan.certificate,
        )


@contextmanager
def looking(
    config: TableConfig,
    places: Places,
    options: RunOptions,
    *,
    trust_hint: bool = False,
    known: Known | None = None,
    watch: Stopwatch | None = None,
) -> Iterator[Look]:
    """Look at one table. The snapshot stays open until the context ends, or :meth:`Look.close_snapshot` closes it. The
    state is read before the snapshot is taken, so that a rival run that commits in between is noticed; a caller that
    has read it already passes ``known``.

    Raises ConfigError when table and configuration do not fit, NotComparedError when ``options`` ask for a verification
    and there is no state to verify from.
    """
    if options.verify:
        known = state_as_found(config, places)
    elif known is None:
        known = hints.read_state(config, places, trust_hint=trust_hint)
    watch, load_id = watch or Stopwatch(), new_load_id()
    with ExitStack() as source:
        opened = places.source.reading(config.schema_, config.table_name, load_id=load_id, export=config.export)
        reading = source.enter_context(opened)
        with watch.phase("plan"):
            plan = plan_increment(config, reading, known.state, options)
            if alike := preflight.problems_of_case(plan.columns, places.warehouse.dialect):
                raise ConfigError(alike, where=config.qualified_name)
        yield Look(
            config=config,
            state=known.state,
            hinted=known.hinted,
            reading=reading,
            plan=plan,
            load_id=load_id,
            source=source,
            watch=watch,
            queries=[*known.queries],
        )

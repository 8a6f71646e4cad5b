"""Tables of one run that are synced together, before their steps (engine/together.py).

A process that executes many steps of a run, as that of the in-process executor, syncs up to 50 tables in the step of
the first one. Each step reports the increment of its own table. So a session and a transaction of the warehouse are
paid once, and runs that share a DuckDB file hold it for a few seconds each, instead of twice for every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext

from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.engine.together import MOST_TABLES
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration.assets import TableAsset


@dataclass(frozen=True)
class Ahead:
    """The receipts of tables that were synced before their steps, in one process and one run.

    ``tables`` are those that are read by themselves, by the key of their step.
    """

    tables: Mapping[str, TableAsset]
    _receipts: dict[str, Receipt] = field(default_factory=dict)  # by step
    _tried: set[str] = field(default_factory=set)  # steps whose table this process has tried to sync

    def receipt(self, context: dg.OutputContext, places: Places) -> Receipt | None:
        """Return the receipt of the table of this step, which may have been synced before, or is synced now with the
        tables of later steps. None if the step has to sync it by itself: it failed before, it is compared or loaded, or
        no other table can join it."""
        step = context.step_context
        key = step.step.key
        if key not in self._tried:
            together = self._together(step)
            self._tried.update((key, *together))
            if len(together) > 1:
                context.log.info(f"This step syncs {len(together)} tables of the run together.")
                steps = {self.tables[each].name: each for each in together}

                def keep(receipt: Receipt) -> None:
                    self._receipts[steps[receipt.table]] = receipt

                batch.run_together([(self.tables[each].table,) for each in together], places, keep)
        return self._receipts.pop(key, None)

    def _together(self, step: StepExecutionContext) -> list[str]:
        """Return this step and later ones of this process whose tables can be synced together: they wait for no other
        step of the run, have no options, and share a pool."""
        layer, configured = step.job_def.asset_layer, step.run_config.get("ops") or {}
        assert isinstance(configured, Mapping)
        executed = {*layer.executable_asset_keys}

        def can_join(key: str) -> bool:
            asset = self.tables.get(key)
            if asset is None or key in self._tried or key in configured:
                return False
            return asset.table.pool == pool and not layer.get(asset.key).parent_keys & executed

        own = step.step.key
        pool = self.tables[own].table.pool if own in self.tables else None
        if not can_join(own):
            return []
        keys = dict.fromkeys((own, *step.execution_plan.step_keys_to_execute))
        return list(islice(filter(can_join, keys), MOST_TABLES))

"""The runner of tables that are read by SELECT; sync.py does the work."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners.base import OnProgress, OnReceipt, Runner
from aurora_sync.model.receipt import Receipt


class TableRunner(Runner):
    joins = True

    def run(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        *,
        allow_deletes: bool = False,
        on_progress: OnProgress = None,
    ) -> None:
        for config in batch:
            on_receipt(sync.run(config, places, allow_deletes=allow_deletes, on_progress=on_progress))

    def verify(self, config: TableConfig, places: Places, *, on_progress: OnProgress = None) -> Receipt:
        return sync.verify(config, places, on_progress=on_progress)

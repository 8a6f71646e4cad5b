"""Disposition APPEND: insert every staged row; none of them was staged before."""

from __future__ import annotations

from aurora_sync.warehouse import history, merge
from aurora_sync.warehouse.dispositions.base import Merging, Written


def write(merging: Merging) -> Written:
    inserted = merging.session.modify(merge.append(merging.layout), merging.written)
    history.record_scanned(merging)
    return Written(inserted)

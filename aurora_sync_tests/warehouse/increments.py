"""Manifests and their objects in a folder, as an export leaves them in S3."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Manifest, StagedFile
from aurora_sync.model.receipt import Applied
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.base import Objects, Session
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.certificates import CERTIFIED

_load_ids = itertools.count(1)


def column(name: str, type_: str = "text", modifier: int = -1, **more: object) -> Column:
    return Column(name=name, attnum=1, type_name=type_, base_type=type_, base_modifier=modifier, **more)  # type: ignore[arg-type]


def watermark(horizon: int = 100) -> Watermark:
    taken_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    token = Token("7000", 1, 15, 5, "2026-01-01T00:00:00+00:00", False, 16384, {"16384": 16384})
    return Watermark("xmin", {"horizon": horizon}, Snapshot(horizon, horizon + 5, taken_at), token)


def csv(rows: Iterable[tuple[str | None, ...]]) -> bytes:
    """Return rows as ``COPY … (FORMAT csv, FORCE_QUOTE *)`` writes them: NULL is an empty field, '' is ""."""
    lines = (
        ",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in row) + "\n" for row in rows
    )
    return "".join(lines).encode()


def apply(session: Session, config: TableConfig, manifest: Manifest, objects: Objects, **options: Any) -> Applied:
    """Apply one table's increment of the strategy ``xmin``."""
    (applied,) = apply_all(session, [StagedIncrement(config, manifest, "xmin")], objects, **options)
    return applied


@dataclass
class Folder:
    """A folder in place of the bucket; implements :class:`Objects`."""

    path: Path
    downloads: list[str] = field(default_factory=list)

    def download(self, key: str, path: Path) -> None:
        self.downloads.append(key)
        shutil.copyfile(self.path / key, path)

    def put(self, key: str, content: bytes) -> StagedFile:
        """Write one object, compressed if its name says so."""
        is_compressed = key.endswith(".zst")
        body = zstandard.compress(content) if is_compressed else content
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        (self.path / key).write_bytes(body)
        return StagedFile(Path(key).name, 0, len(body), compression="zstd" if is_compressed else "")

    def increment(
        self,
        columns: Iterable[Column],
        rows: Iterable[tuple[str | None, ...]],
        *,
        key: tuple[str, ...] = ("id",),
        disposition: Disposition = Disposition.UPSERT,
        expected: int = 0,
        table: str = "public.orders",
        files: int = 1,
        **others: Any,
    ) -> Manifest:
        """Stage rows given as text and return the manifest. The last field of a row is its xmin; a change has the
        fields of warehouse/dispositions/changes.py. ``others`` are further fields of the manifest."""
        rows = list(rows)
        load_id = f"load{next(_load_ids):06d}"
        prefix = f"stage/{table}/{load_id}/"
        staged = []
        if rows:
            size = -(-len(rows) // files)
            for part, at in enumerate(range(0, len(rows), size)):
                some = rows[at : at + size]
                file = self.put(f"{prefix}part-{part:05d}.csv.zst", csv(some))
                staged.append(StagedFile(file.name, len(some), file.bytes))
        return Manifest(
            table=table,
            load_id=load_id,
            prefix=prefix,
            disposition=disposition,
            files=tuple(staged),
            columns=tuple(columns),
            key=key,
            watermark_before=None,
            watermark_after=watermark(100 + expected),
            expected_sequence=expected,
            certificate=CERTIFIED,
            **others,
        )

"""A session that passes everything on: what tests that watch or disturb one begin with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from aurora_sync.increment import Manifest
from aurora_sync.warehouse.base import Objects, Row, Session


class Through(Session):
    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def before(self, statement: str) -> None:
        """Called before every statement; COPY and COMMIT have no text of their own."""

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.before(statement)
        return self.inner.query(statement, parameters)

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        self.before(statement)
        return self.inner.modify(statement, parameters)

    def arrow(self, statement: str) -> Any:
        self.before(statement)
        return self.inner.arrow(statement)

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        self.before("COPY")
        return self.inner.load(staging_table, manifest, objects)

    def transaction(self) -> AbstractContextManager[None]:
        return self.inner.transaction()

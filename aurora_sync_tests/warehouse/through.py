"""A session that forwards everything: the base of tests that watch or disturb a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aurora_sync.model.manifest import Manifest, TakenFile
from aurora_sync.model.receipt import QueryRef
from aurora_sync.warehouse.base import Folder, Merged, Objects, ReportedColumn, Row, Session, TableProperties
from aurora_sync.warehouse.ddl import identifier, literal
from aurora_sync.warehouse.query_tag import QueryTag


class Through(Session):
    def __init__(self, inner: Session) -> None:
        self.inner = inner
        self.dialect = inner.dialect

    def queries(self, load_id: str = "") -> tuple[QueryRef, ...]:
        return self.inner.queries(load_id)

    def about(self, query_tag: QueryTag) -> None:
        self.inner.about(query_tag)

    def before(self, statement: str) -> None:
        """Hook that is called before every statement; COPY and COMMIT are reported by name."""

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.before(statement)
        return self.inner.query(statement, parameters)

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        self.before(statement)
        return self.inner.modify(statement, parameters)

    def merge(self, statement: str, parameters: Sequence[Any] = ()) -> Merged:
        self.before(statement)
        return self.inner.merge(statement, parameters)

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        self.before(f"DESCRIBE TABLE {identifier(schema)}.{identifier(name)}")
        return self.inner.describe(schema, name)

    def properties(self, schema: str, name: str) -> TableProperties | None:
        self.before(f"SHOW TABLES IN SCHEMA {identifier(schema)} STARTS WITH {literal(name)}")
        return self.inner.properties(schema, name)

    def tables(self, schema: str, prefix: str) -> list[str]:
        self.before(f"SHOW TABLES IN SCHEMA {identifier(schema)} STARTS WITH {literal(prefix)}")
        return self.inner.tables(schema, prefix)

    def has_schema(self, name: str) -> bool:
        self.before(f"SHOW SCHEMAS STARTS WITH {literal(name)}")
        return self.inner.has_schema(name)

    def spellings(self, name: str) -> list[tuple[str, str]]:
        self.before(f"SHOW TABLES LIKE {literal(name)} IN DATABASE")
        return self.inner.spellings(name)

    def arrow(self, statement: str) -> Any:
        self.before(statement)
        return self.inner.arrow(statement)

    def copy_files(
        self, raw_table: str, columns: Sequence[str], folder: Folder, files: Sequence[TakenFile], null: str
    ) -> int:
        self.before("COPY")
        return self.inner.copy_files(raw_table, columns, folder, files, null)

    def copy_ragged(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], width: int, null: str) -> int:
        self.before("COPY")
        return self.inner.copy_ragged(raw_table, folder, files, width, null)

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        self.before("COPY")
        return self.inner.load(staging_table, manifest, objects)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.inner.transaction():
            yield

    def close(self) -> None:
        self.inner.close()


class Killed(BaseException):
    """The process is killed: none of its code runs any more."""


class Dying(Through):
    """Forwards ``last`` statements; then the connection is dead. COMMIT and its answer count as two."""

    def __init__(self, inner: Session, last: int, error: Callable[[str], BaseException] = Killed) -> None:
        super().__init__(inner)
        self.left, self.error = last, error

    def before(self, statement: str) -> None:
        if self.left == 0:
            raise self.error("dead")
        self.left -= 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.inner.transaction():
            yield
            self.before("COMMIT")
        self.before("the acknowledgement of COMMIT")

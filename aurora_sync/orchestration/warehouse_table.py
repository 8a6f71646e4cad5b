"""The handle of a synced table that a downstream asset gets. It reads rows only on request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aurora_sync.model.names import TargetNames, fold
from aurora_sync.warehouse import ddl, located
from aurora_sync.warehouse.base import Warehouse
from aurora_sync.warehouse.query_tag import QueryTag

if TYPE_CHECKING:
    import pyarrow


def table_name(written: Sequence[str], shown: object) -> ddl.TableName:
    """Return the name of a target. ``written`` are schema and table as tables.yaml names them now; ``shown`` is the
    name in the metadata of the newest materialization, whose case may be another one."""
    schema, table = written
    if isinstance(shown, str) and fold(shown) == fold(f"{schema}.{table}"):
        return ddl.TableName(shown[: len(schema)], shown[len(schema) + 1 :])
    return ddl.TableName(schema, table)


@dataclass(frozen=True)
class WarehouseTable:
    """A synced table in the warehouse. The constructor does no I/O.

    ``run_sequence`` is that of the newest materialization in Dagster; the table itself may be newer.
    """

    warehouse: Warehouse
    name: ddl.TableName
    run_sequence: int | None

    def __str__(self) -> str:
        """Return ``SCHEMA.TABLE`` for people. Use :attr:`sql` in statements."""
        return str(self.name)

    @property
    def sql(self) -> str:
        """The quoted qualified name, for statements."""
        return self.name.sql

    def read(self, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Return all rows in memory, without rows marked as deleted.

        ``columns`` are names at the source or in the warehouse; the default is all columns of the source. Needs the
        extra ``frames``. Raises WarehouseError.
        """
        return self.batches(columns).read_all()

    def batches(self, columns: Sequence[str] | None = None) -> pyarrow.RecordBatchReader:
        """Return the rows of :meth:`read` as a stream. A session stays open until the last batch was read."""
        import pyarrow

        with ExitStack() as stack:
            session = stack.enter_context(self.warehouse.session(query_tag=QueryTag("read", target=str(self.name))))
            reader = session.arrow(self._select(*located.located(session, self.name), columns))
            open_session = stack.pop_all()

        def rows() -> Iterator[pyarrow.RecordBatch]:
            with open_session:
                yield from reader

        return pyarrow.RecordBatchReader.from_batches(reader.schema, rows())

    def _select(self, table: ddl.TableName, existing: Collection[str], columns: Sequence[str] | None) -> str:
        """Return the SELECT. The added columns are left out by default; rows marked as deleted are always left out."""
        chosen = [name for name in existing if name not in ddl.ADDED_TYPES] if columns is None else columns
        found = TargetNames("upper", tuple(existing))
        names = ", ".join(ddl.identifier(found.of(name)) for name in chosen)
        present = f' WHERE "{ddl.DELETED}" IS DISTINCT FROM TRUE' if ddl.DELETED in existing else ""
        return f"SELECT {names} FROM {table.sql}{present}"  # noqa: S608 - every name is quoted

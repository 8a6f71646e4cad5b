"""The place of a table in the warehouse: under the name that tables.yaml gives it, or under one that differs by case,
because ``names`` was changed after the table was created."""

from __future__ import annotations

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.ddl import TableName


def find_target(session: Session, config: TableConfig) -> tuple[TableName, dict[str, ReportedColumn]]:
    """Return the name of the target and its columns. They are empty when there is no target; the name is then that of
    a new one."""
    return located(session, ddl.target_name(config))


def located(session: Session, wanted: TableName) -> tuple[TableName, dict[str, ReportedColumn]]:
    """Return a table of aurora_sync with its columns, also if schema and name are written in another case than in
    ``wanted``: ``names`` changed since it was created. Without such a table, return ``wanted`` and no columns."""
    if columns := ddl.described(session, wanted):
        return wanted, columns
    found = []
    for schema, name in session.spellings(wanted.name):
        table = TableName(schema, name)
        if table.key != wanted.key:
            continue
        columns = ddl.described(session, table)
        if ddl.RUN_SEQ in columns or not session.dialect.case_sensitive:
            found.append((table, columns))
    if len(found) > 1:
        named = ", ".join(table.sql for table, _ in found)
        raise WarehouseError(
            f"found the targets {named}, which differ only by case; expected one",
            where=wanted.sql,
            hint=f"rename or drop all but one, such as `{ddl.drop_table(found[-1][0])}`",
        )
    return found[0] if found else (wanted, {})

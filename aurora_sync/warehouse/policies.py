"""Policies, streams and collations that others set on a target, and whether a sync is still correct with them.

A masking policy also applies to the role that loads: a statement that reads a masked column of the target reads masked
values, and may write them back. A row access policy hides rows from UPDATE, DELETE, MERGE and COUNT. Under a collation,
keys that differ only in case are equal. ``policies: exempt`` in tables.yaml says that the role sees all rows and
values.

Each run sees masks that are set on a column, and collations, in the DESCRIBE that it needs anyway. Masks that a tag
brings, row access policies and streams need further statements. `aurora-sync check`, the first load into an existing
table, a run that reads the sync log instead of the hint, and a conversion of a column send them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.names import TargetNames
from aurora_sync.warehouse import ddl, located
from aurora_sync.warehouse.base import Attached, ReportedColumn, Session
from aurora_sync.warehouse.ddl import ADDED_TYPES, Layout, TableName, TargetColumn, identifier

# Both compare texts byte by byte.
_BINARY = ("", "utf8")

Columns = Mapping[str, ReportedColumn]


def refuse(config: TableConfig, layout: Layout, manifest: Manifest, columns: Columns) -> None:
    """Raise WarehouseError if an increment would not be correct with the collations and masks of the target's
    ``columns``."""
    refuse_collated(layout.target, layout.types, columns)
    read = {*layout.match, *layout.added, *map(layout.names.of, manifest.fill)}
    if any(part.partial for part in manifest.parts):
        read |= layout.types.keys()
    _refuse_masked(config, layout.target, _masks(columns), read)


def refuse_comparison(config: TableConfig, layout: Layout, columns: Columns) -> None:
    """Raise WarehouseError if a verification would compare masked values."""
    _refuse_masked(config, layout.target, _masks(columns), layout.types.keys())


def refuse_conversion(session: Session, config: TableConfig, layout: Layout, column: TargetColumn) -> None:
    """Raise WarehouseError if the conversion of a column (convert.py) would show masked values, because the column that
    replaces it has no policy, or would not convert hidden rows."""
    target, name = layout.target, column.name
    reported = ddl.described(session, target)
    attached = session.attached(target.schema, target.name)
    _refuse_hidden_rows(config, target, attached)
    if policy := (_masks(reported) | dict(attached.masks)).get(name):
        alter = f"ALTER TABLE {target.sql} MODIFY COLUMN {column.sql}"
        raise WarehouseError(
            f"column {name} of {target} is {reported[name].type} and must become {column.rule.target}, but it has the"
            f" masking policy {policy}, and the column that would replace it has none",
            where=config.qualified_name,
            hint=f"run `{alter} UNSET MASKING POLICY`, sync, and set the policy again: `{alter} SET MASKING POLICY"
            f" {policy}`; or choose types: or column_types: in tables.yaml so that the type stays",
        )


def _masks(columns: Columns) -> dict[str, str]:
    return {name: column.policy for name, column in columns.items() if column.policy}


def look(session: Session, config: TableConfig, key: Collection[str] = ()) -> tuple[Finding, ...]:
    """Look at everything that is attached to the target, and return what does not make a sync incorrect. ``key`` are
    its columns of the merge key; when they are not known, columns that cannot be NULL are taken for them.

    Raises WarehouseError when a run would not be correct.
    """
    target, columns = located.find_target(session, config)
    if not columns:
        return ()
    attached = session.attached(target.schema, target.name)
    names = TargetNames(config.names, tuple(columns))
    key = key or [
        *map(names.of, config.primary_key or ()),
        *(n for n, column in columns.items() if not column.nullable),
    ]
    masks = _masks(columns) | dict(attached.masks)
    _refuse_masked(config, target, masks, {*key, *ADDED_TYPES})
    _refuse_hidden_rows(config, target, attached)
    return (*_findings(target, masks, attached), *_kept_names(session, config, target))


def _kept_names(session: Session, config: TableConfig, target: TableName) -> list[Finding]:
    """Return a finding if the target was created under another ``names``."""
    if target == ddl.target_name(config):
        return []
    text = (
        f"the target of {config.qualified_name} keeps its names, such as {target.sql}, although tables.yaml has names:"
        f" {config.names}"
    )
    if session.dialect.case_sensitive:
        text += "; `aurora-sync upgrade --plan` prints the statements that rename"
    return [Finding("names", Action.GO_ON, text)]


def _refuse_hidden_rows(config: TableConfig, target: TableName, attached: Attached) -> None:
    if attached.row_policies and config.policies == "refuse":
        policy = attached.row_policies[0]
        raise WarehouseError(
            f"{target} has the row access policy {policy}, which hides rows from a role that it does not exempt: they"
            " would be inserted twice, and never updated or deleted",
            where=config.qualified_name,
            hint="let the policy show all rows to the role of aurora_sync and set `policies: exempt` for the table in"
            f" tables.yaml; or run `ALTER TABLE {target.sql} DROP ROW ACCESS POLICY {policy}`",
        )


def _findings(target: TableName, masks: Mapping[str, str], attached: Attached) -> list[Finding]:
    found = [
        Finding(
            "policy",
            Action.GO_ON,
            f"column {name} of {target} has the masking policy {policy}: a run cannot change its type, and a"
            " verification needs `policies: exempt`",
        )
        for name, policy in masks.items()
    ]
    found += [
        Finding(
            "stream",
            Action.GO_ON,
            f"the stream {name} reads {target}: do not replace or drop the table, or the stream becomes unreadable",
        )
        for name in attached.streams
    ]
    found += [Finding("policy", Action.GO_ON, f"{target}: {why}") for why in attached.unseen]
    return found


def _refuse_masked(config: TableConfig, target: TableName, masks: Mapping[str, str], read: Collection[str]) -> None:
    masked = {name: policy for name, policy in masks.items() if name in read}
    if not masked or config.policies == "exempt":
        return
    named = ", ".join(f"{name} ({policy})" for name, policy in masked.items())
    unset = "; ".join(
        f"ALTER TABLE {target.sql} MODIFY COLUMN {identifier(name)} UNSET MASKING POLICY" for name in masked
    )
    raise WarehouseError(
        f"these columns of {target} have a masking policy, and are read back: {named}. A role that sees masked"
        " values would match no rows, write the masked values into the table, or compare them",
        where=config.qualified_name,
        hint="let the policy show the values to the role of aurora_sync and set `policies: exempt` for the table in"
        f" tables.yaml; or run `{unset}`",
    )


def refuse_collated(target: TableName, names: Collection[str], columns: Columns) -> None:
    """Raise WarehouseError if one of the columns ``names`` has a collation. Snowflake cannot change the collation of a
    column, so the statements that mend it add another column."""
    collated = [name for name in names if name in columns and columns[name].collation not in _BINARY]
    if not collated:
        return
    table = f"ALTER TABLE {target.sql}"
    statements = [_without_collation(table, target, name, columns[name].type) for name in collated]
    named = ", ".join(f"{name} ({columns[name].collation})" for name in collated)
    raise WarehouseError(
        f"these columns of {target} have a collation, under which different texts can be equal: {named}; expected none",
        where=str(target),
        hint=f"run `{' '.join(statements)}`, and sync again: the run then reads the whole table",
    )


def _without_collation(table: str, target: TableName, name: str, type_: str) -> str:
    old, new = identifier(name), identifier(f"{name}_")
    return (
        f"{table} ADD COLUMN {new} {type_} COLLATE ''; UPDATE {target.sql} SET {new} = COLLATE({old}, '');"  # noqa: S608
        f" {table} DROP COLUMN {old}; {table} RENAME COLUMN {new} TO {old};"
    )

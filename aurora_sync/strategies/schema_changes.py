"""Comparison of a table's columns with those of a watermark, and the reaction of its target.

================================= ========= ==================================================================
what changed                      action    why
================================= ========= ==================================================================
column added                      backfill  older rows have the default, which the catalogue stores
column added, default volatile    reseed    the values are in the rewritten rows, not in the catalogue
or the column generated
column dropped, or excluded       adapt     the target keeps the column and its values, marked by a comment
column renamed                    adapt     a rename does not change the number of a column
column renamed to one in use      reseed    for example two columns that swap their names
type changed, values not          adapt     varchar(10) to text, numeric(8,2) to numeric(10,2)
type changed otherwise            reseed    the ALTER rewrites every row
merge key changed                 reseed    the merge finds target rows by another key
policy or generation changed      reseed    rows that nobody wrote have other values now
column no longer excluded         reseed    its values were never read
not null set or dropped           go on     in the target only the merge key is not null
================================= ========= ==================================================================

Columns are identified by their numbers (pg_attribute.attnum); in a recreated table, by their names.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, GuardError
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Evolution
from aurora_sync.model.names import fold
from aurora_sync.model.observation import Observation
from aurora_sync.model.state import State
from aurora_sync.model.watermark import KnownColumn, Watermark

# A change between these types does not change the text of a value.
_TEXTS = {"text", "varchar"}


@dataclass(frozen=True)
class SchemaChanges:
    findings: tuple[Finding, ...] = ()
    backfill: tuple[Column, ...] = ()
    evolution: Evolution = field(default_factory=Evolution)

    @property
    def reseed(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.action is Action.RESEED)

    @property
    def texts_stay(self) -> bool:
        """True when a row that was not written since the watermark still gives the same CSV row."""
        return not self.reseed and not any(f.event in ("column dropped", "column excluded") for f in self.findings)


UNCHANGED = SchemaChanges()


def known_columns(columns: Sequence[Column], key: Sequence[str]) -> tuple[KnownColumn, ...]:
    """Return the descriptions of the synced columns for a watermark."""
    return tuple(
        KnownColumn(
            attnum=c.attnum,
            name=c.name,
            type_name=c.type_name,
            base_type=c.base_type,
            not_null=c.not_null,
            generation=(c.default or "") if c.generated else "",
            policy=c.policy,
            key_place=1 + key.index(c.name) if c.name in key else 0,
        )
        for c in columns
    )


def still_synced(stored: Watermark, columns: Sequence[Column], at: Observation) -> tuple[Column, ...]:
    """Return the columns that the watermark knows, which ``schema_changes: ignore`` continues to sync."""
    identity = _identity(stored, at)
    known = {identity(column) for column in stored.columns}
    return tuple(column for column in columns if identity(column) in known)


def read_as_text(
    columns: Sequence[Column], stored: Watermark | None, at: Observation, wanted: Collection[str]
) -> tuple[Column, ...]:
    """Return the columns, with policy ``text`` for the arrays in ``wanted`` and those that were read as text before:
    under ``exact`` an array that became text stays text until its type changes."""
    identity = _identity(stored, at) if stored else by_name
    texts = {(identity(c), c.type_name) for c in stored.columns if c.policy == "text"} if stored else set()
    return tuple(
        replace(c, policy="text")
        if c.is_array and c.policy == "exact" and (c.name in wanted or (identity(c), c.type_name) in texts)
        else c
        for c in columns
    )


def known_as_text(stored: Watermark, wanted: Collection[str]) -> Watermark:
    """Return the watermark with policy ``text`` for the columns in ``wanted``, so that their change to text does not
    count as a change of the policy."""
    known = tuple(replace(c, policy="text") if c.name in wanted else c for c in stored.columns)
    return replace(stored, columns=known)


def compare(
    stored: Watermark,
    columns: Sequence[Column],
    key: Sequence[str],
    at: Observation,
    *,
    in_source: Sequence[Column],
    older: Callable[[Sequence[Column]], Sequence[Column]] = tuple,
) -> SchemaChanges:
    """Compare the current columns with those of the watermark, and return the changes.

    ``in_source`` are all columns of the table, synced or not. ``older`` gets added columns and returns them with their
    values in older rows (``missing``), for tables whose own catalogue entry does not have them; it omits columns for
    which there is no such value.
    """
    identity = _identity(stored, at)
    then, now = {identity(c): c for c in stored.columns}, {identity(c): c for c in columns}
    found = {place: _changed(then[place], now[place], stored, at) for place in then.keys() & now.keys()}
    findings = [change for place in sorted(found) for change in found[place]]
    renamed, swaps = _renamed(stored, [(then[place], now[place]) for place in found])
    there = {identity(column) for column in in_source}
    gone = [column for place, column in then.items() if place not in now]
    kept = {column.name for column in columns} | renamed.keys()
    dropped = [column.name for column in (*gone, *stored.columns) if column.name not in kept]
    key_then = [column.name for column in _by_place(stored.columns)]
    before, after = ([identity(c) for c in _by_place(side)] for side in (stored.columns, known_columns(columns, key)))
    rekeyed = before != after
    findings += [*swaps, *(_gone(column, excluded=identity(column) in there) for column in gone)]
    findings += _rekeyed(key_then, key) if rekeyed else ()
    findings += _types_changed(stored, columns, at) if identity is by_number else ()
    added = [column for place, column in now.items() if place not in then]
    backfill = _fillable(stored, at, added, key, older)
    filled = {column.name: column for column in backfill}
    findings += [_added(filled.get(new.name, new), new.name in filled, stored) for new in added]
    return SchemaChanges(
        tuple(findings),
        tuple(backfill),
        Evolution(
            renamed=renamed,
            dropped=tuple(dict.fromkeys(dropped)),
            retyped=tuple(
                now[place].name
                for place, changes in found.items()
                if any(change.event in ("column type", "policy") for change in changes)
            ),
            former_key=tuple(key_then) if rekeyed or swaps else (),
            rekeyed=rekeyed or bool(swaps),
        ),
    )


def _renamed(
    stored: Watermark, pairs: Iterable[tuple[KnownColumn, Column]]
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Return a mapping from old to new names. Return no mapping but a finding when a new name belonged to another
    column, whatever its case."""
    renamed = {then.name: now.name for then, now in pairs if then.name != now.name}
    names = {(fold(column.name), column.name) for column in stored.columns}
    if not any(fold(new) == folded and old != name for old, new in renamed.items() for folded, name in names):
        return renamed, ()
    text = (
        f"columns were renamed to names that other columns had: {', '.join(f'{a} to {b}' for a, b in renamed.items())}"
    )
    return {}, (_reseed("column renamed", text, ", ".join(renamed), ", ".join(renamed.values())),)


def _gone(column: KnownColumn, *, excluded: bool) -> Finding:
    event, what = ("column excluded", "is excluded now") if excluded else ("column dropped", "was dropped")
    text = f"column {column.name} {what}: the target keeps the column with its values, and marks it in a comment"
    return Finding(event, Action.ADAPT, text, f"{column.name} {column.type_name}", "")


def _rekeyed(then: Sequence[str], now: Sequence[str]) -> tuple[Finding, ...]:
    before, after = ", ".join(then) or "none", ", ".join(now) or "none"
    return (_reseed("merge key", f"the merge key was ({before}) and is ({after}) now", before, after),)


def _types_changed(stored: Watermark, columns: Sequence[Column], at: Observation) -> Iterator[Finding]:
    """Yield findings for changes outside of the rows that change the texts of values."""
    labels_then, labels_now = stored.token.labels, at.token.labels
    if labels := {a: b for oid, a in labels_then.items() if (b := labels_now.get(oid, a)) != a}:
        before, after = ", ".join(labels), ", ".join(labels.values())
        text = f"labels of enum types were renamed: {before} to {after}"
        yield _reseed("enum renamed", text, before, after)
    types_then, types_now = stored.token.types or {}, at.token.types or {}
    if changed := [text for oid, text in types_then.items() if types_now.get(oid, text) != text]:
        yield _reseed("type changed", _changed_types(changed, columns), "", "")


def _changed_types(before: Sequence[str], columns: Sequence[Column]) -> str:
    """Return in words which types changed, with the columns that may have them. ``before`` has the descriptions of the
    types in the token: the attributes of a composite type, or the digest of the names that a reg* type prints."""
    composite = any(not text or " " in text for text in before)
    reg = any(text and " " not in text for text in before)
    of_composite = [c for c in columns if c.type_category in ("C", "A", "R") and not c.base_type.startswith("_reg")]
    of_reg = [c for c in columns if c.base_type.lstrip("_").startswith("reg")]
    parts = []
    if composite:
        parts.append(f"the attributes of a composite type changed{_listed(of_composite)}")
    if reg:
        parts.append(f"names that a reg* type prints changed{_listed(of_reg)}")
    return "; ".join(parts)


def _listed(columns: Sequence[Column]) -> str:
    return f" (column {', '.join(f'{c.name} {c.type_name}' for c in columns)})" if columns else ""


def table_renamed(config: TableConfig, state: State, at: Observation) -> tuple[Finding, ...]:
    """Return a finding when the target was filled from the same table under another name. Raises ConfigError when it
    was filled from another table."""
    then, now = state.source_table, config.qualified_name
    if then in ("", now):
        return ()
    if state.watermark is None or _identity(state.watermark, at) is by_name:
        raise ConfigError(
            f"{'.'.join(state.target or config.written_target)} is filled from {then}, but {now} has the same target",
            where=now,
            hint="set another target_schema or target_table for one of the tables",
        )
    return (Finding("table renamed", Action.GO_ON, f"{then} was renamed to {now}", then, now),)


def allowed(changes: SchemaChanges, mode: str, table: str) -> SchemaChanges:
    """Return the changes that ``schema_changes`` of tables.yaml (``mode``) lets through. Raises GuardError with every
    difference: under freeze for all changes, under ignore for those without which the target cannot be written."""
    findings = changes.findings
    if mode == "freeze":
        refused = [finding for finding in findings if finding.action is not Action.GO_ON]
    elif mode == "ignore":
        refused = [f for f in findings if f.event not in ("column dropped", "column excluded", "not null", "policy")]
        refused = [f for f in refused if f.action is not Action.BACKFILL]
        findings = tuple(replace(f, action=Action.GO_ON) if f.event == "column dropped" else f for f in findings)
        changes = replace(changes, findings=findings, evolution=replace(changes.evolution, dropped=()))
    else:
        refused = []
    if refused:
        raise GuardError(
            f"the columns changed, and schema_changes is {mode}: {'; '.join(map(_difference, refused))}",
            where=table,
            hint=f"nothing was applied; run `aurora-sync sync --full {shlex.quote(table)}` once to accept the changes,"
            " or set schema_changes: apply",
        )
    return changes


def _identity(stored: Watermark, at: Observation) -> Callable[[Column | KnownColumn], int | str]:
    """Return the function that identifies columns: by number in the same table, by name in a recreated table."""
    then, now = stored.token, at.token
    same = (then.table_oid, then.database_oid) == (now.table_oid, now.database_oid)
    same = same and (then.system_identifier == now.system_identifier or then.major < now.major)
    return by_number if same else by_name


def by_number(column: Column | KnownColumn) -> int | str:
    return column.attnum


def by_name(column: Column | KnownColumn) -> int | str:
    return column.name


def _by_place(columns: Iterable[KnownColumn]) -> list[KnownColumn]:
    return sorted((column for column in columns if column.key_place), key=lambda column: column.key_place)


def _reseed(event: str, text: str, before: str, after: str) -> Finding:
    return Finding(event, Action.RESEED, f"reading the whole table again: {text}", before, after)


def _difference(finding: Finding) -> str:
    return f"{finding.event}: {finding.before or 'none'} -> {finding.after or 'none'}"


def _changed(then: KnownColumn, now: Column, stored: Watermark, at: Observation) -> list[Finding]:
    """Return the changes of one column that still exists."""
    findings = []
    if then.name != now.name:
        text = f"column {then.name} was renamed to {now.name}"
        findings.append(Finding("column renamed", Action.ADAPT, text, then.name, now.name))
    if then.type_name != now.type_name:
        text = f"column {now.name} was {then.type_name} and is {now.type_name} now"
        same_text = then.base_type == now.base_type or {then.base_type, now.base_type} <= _TEXTS
        if same_text and not stored.token.rewritten(at.token):
            findings.append(Finding("column type", Action.ADAPT, text, then.type_name, now.type_name))
        else:
            findings.append(_reseed("column type", text, then.type_name, now.type_name))
    if then.not_null != now.not_null:
        before, after = ("not null" if side else "null" for side in (then.not_null, now.not_null))
        text = f"column {now.name} was {before} and is {after} now"
        findings.append(Finding("not null", Action.GO_ON, text, f"{now.name} {before}", f"{now.name} {after}"))
    generation = (now.default or "") if now.generated else ""
    if then.generation != generation:
        text = f"the expression of generated column {now.name} changed"
        findings.append(_reseed("generated column", text, then.generation, generation))
    if then.policy != now.policy:
        text = f"the policy of column {now.name} was {then.policy} and is {now.policy} now"
        findings.append(_reseed("policy", text, f"{now.name} {then.policy}", f"{now.name} {now.policy}"))
    return findings


def _added(column: Column, filled: bool, stored: Watermark) -> Finding:
    after = f"{column.name} {column.type_name}"
    if filled:
        value = "NULL" if column.missing is None else repr(column.missing)
        text = f"column {column.name} was added: rows outside of the increment get {value}"
        return Finding("column added", Action.BACKFILL, text, "", after)
    if column.attnum <= stored.token.attributes:
        return _reseed("column included", f"column {column.name} was not synced so far", "", after)
    return _reseed(
        "column added", f"column {column.name} was added, and each row may have a value of its own", "", after
    )


def _fillable(
    stored: Watermark,
    at: Observation,
    added: Sequence[Column],
    key: Sequence[str],
    older: Callable[[Sequence[Column]], Sequence[Column]],
) -> Sequence[Column]:
    """Return the added columns whose values in older rows are known from the catalogue. A rewrite moves these values
    into the rows, and the catalogue has none for a generated column. Without a key, nothing shows which of several
    equal rows in the target are older."""
    if not key or stored.token.rewritten(at.token):
        return ()
    filled = older([c for c in added if not c.generated and c.attnum > stored.token.attributes and c.name not in key])
    # The catalogue has an array in PostgreSQL's notation; and values that a policy changes have to be counted.
    odd = [c for c in filled if c.missing is not None and (c.is_array or c.policy in ("null", "clamp"))]
    return tuple(column for column in filled if column not in odd)

"""The asset checks of a table. They use only its receipt: the same step and snapshot, and no further query.

=========== ==========================================================================================================
row_count   Compares source and target as of one snapshot. Missing rows are an error; surplus rows are a warning if the
            strategy cannot see deletes, else an error. A difference that verify found last is a warning.
watermark   The watermark never moves backwards, and it moves forwards when an increment applied rows.
merge_key   The merge key is never null, and no two rows share one.
certificate The guarantee of the run is proved, or bounded by a lag that the certificate names.
slot        Streams only: the server has all the WAL that the slot needs, will keep it, and does not keep too much.
schema      Warns, with before and after, for three days after columns of source or target changed.
adjusted    Only with a policy null or clamp: warns for three days after a run changed values to fit the target's types.
=========== ==========================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from aurora_sync.config.checks import Check, RowCountCheck, SlotCheck
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.as_json import as_json
from aurora_sync.model.certificate import Action, Finding, Level
from aurora_sync.model.foreign_text import markdown
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.verification import Verification
from aurora_sync.orchestration import compat, metadata
from aurora_sync.strategies import strategy_of

COUNTS_AGREE = "counts_agree"  # metadata entry of a row_count that only warns because of verify
VERDICTS = "verdicts"  # metadata entry of a verification, from which last_verdicts reads
CHANGES = "column_changes"  # metadata entry of a schema check: the changes that it still shows
ADJUSTMENTS = "adjustments"  # metadata entry of a check of adjusted values: those that it still shows
_JUDGED_AT = "judged_at_run_sequence"
# A warning about changed columns or values lasts over a weekend, so that somebody sees it.
CHANGES_SHOWN = timedelta(days=3)
# Every run of three days may change values, and each evaluation holds those that it shows.
ADJUSTMENTS_SHOWN = 20

# Time of the evaluation in ISO 8601, run sequence, and what the run changed.
ColumnChange = tuple[str, int, Finding]
Adjustment = tuple[str, int, str]

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

_REMEDY = (
    "A reconcile repairs missing, stale and deleted rows; a full read also repairs rows that were edited in the target."
    " This warning ends with the next verification that finds no difference"
)
_DESCRIPTIONS = {
    "row_count": "The target has as many rows as the source had in the snapshot that was read.",
    "watermark": "The watermark never moves backwards, and it moves forward when an increment applied rows.",
    "merge_key": "The merge key is never null, and no two rows share one.",
    "certificate": "The guarantee of the run is proved, or bounded by a lag that the certificate names.",
    "slot": "The server has all WAL that the replication slot needs, and does not keep too much of it.",
    "schema": "No column of source or target changed in the last three days. If one did, the changes are shown.",
    "adjusted": "No run of the last three days changed a value to fit a type of the target. If one did, it is shown.",
}


@dataclass(frozen=True)
class CheckOutcome:
    """Outcome of one check. ``passed`` is None if this run has no data for it: the last verdict stays valid.

    ``text`` becomes the description of the check. A text carried over from an earlier run is already escaped Markdown.
    """

    passed: bool | None
    text: str
    severity: dg.AssetCheckSeverity = ERROR
    numbers: dict[str, Any] = field(default_factory=dict)


def enabled(table: TableConfig) -> dict[str, Check]:
    """Return the enabled checks of a table: name -> configuration."""
    checks: dict[str, Check] = {
        name: getattr(table.checks, {"schema": "schema_"}.get(name, name)) for name in _DESCRIPTIONS
    }
    if not strategy_of(table).uses_slot:
        del checks["slot"]
    if not {"null", "clamp"} & {*table.types.values(), *table.column_types.values()}:
        del checks["adjusted"]
    return {name: check for name, check in checks.items() if check.enabled}


def specs(table: TableConfig, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return a spec for every enabled check."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=_DESCRIPTIONS[name], blocking=check.blocking)
        for name, check in enabled(table).items()
    ]


def results(
    table: TableConfig,
    key: dg.AssetKey,
    receipt: Receipt,
    instance: dg.DagsterInstance,
    verification: dg.AssetKey | None,
) -> Iterator[dg.AssetCheckResult]:
    """Yield one result for every enabled check; Dagster requires one for each check that a step declares.

    The row_count check repeats the last verdict that the asset ``verification`` gave on the table. ``verification`` is
    None if the receipt itself has a new verdict.
    """
    for name, check in enabled(table).items():
        outcome = judge(name, check, receipt)
        if outcome.passed is not None and name == "schema":
            outcome = schema(receipt, _changes_lately(dg.AssetCheckKey(key, name), instance))
        elif outcome.passed is not None and name == "adjusted":
            outcome = adjusted(receipt, _lately(dg.AssetCheckKey(key, name), instance, ADJUSTMENTS))
        if outcome.passed is None:
            outcome = _carried(dg.AssetCheckKey(key, name), outcome.text, receipt, instance)
        else:
            outcome = replace(outcome, text=markdown(outcome.text))
            outcome.numbers[_JUDGED_AT] = str(receipt.run_sequence)
        if name == "row_count":
            if verification is None:
                last: Mapping[str, Any] | None = as_verdict(verification_of(receipt))
            else:
                last = last_verdicts(instance, verification).get(table.qualified_name)
            outcome = with_last_verified(outcome, last)
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=key,
            passed=bool(outcome.passed),
            severity=WARN if check.severity == "warn" else outcome.severity,
            description=outcome.text,
            metadata=outcome.numbers,
        )


def judge(name: str, check: Check, receipt: Receipt) -> CheckOutcome:
    """Evaluate one check on the receipt of a run."""
    if isinstance(check, RowCountCheck):  # engine/sync.py counts in the snapshot of every `every`th run
        return row_count(check, receipt)
    if isinstance(check, SlotCheck):
        return slot(check, receipt)
    if receipt.run_sequence % check.every:
        return CheckOutcome(None, f"the check is evaluated every {check.every} applied runs")
    judges = {"watermark": watermark, "merge_key": merge_key, "certificate": certificate}
    return (judges | {"schema": schema, "adjusted": adjusted})[name](receipt)


def row_count(check: RowCountCheck, receipt: Receipt) -> CheckOutcome:
    source, target = receipt.source_rows, receipt.target_rows
    if source is None:
        return CheckOutcome(
            None,
            f"rows are counted every {check.every} applied runs" if receipt.changed else "the run found no changes",
        )
    excess = target - source
    numbers = {"source_rows": source, "target_rows": target, "excess_rows": excess}
    if abs(excess) <= check.tolerance * source:
        near = f", within the tolerance of {check.tolerance:.2%}" if excess else ""
        return CheckOutcome(True, f"{target:,} rows in the target, {source:,} in the source{near}", ERROR, numbers)
    if excess < 0:
        return CheckOutcome(False, f"The target lacks {-excess:,} of the source's {source:,} rows", ERROR, numbers)
    if receipt.sees_deletes:
        text = f"The target has {excess:,} rows more than the source, which has {source:,}"
        return CheckOutcome(False, text, ERROR, numbers)
    text = (
        f"The target has {excess:,} rows more than the source, which has {source:,}: the rows were deleted at the "
        f"source, and {receipt.strategy} does not see deletes; a reconcile removes them"
    )
    return CheckOutcome(False, text, WARN, numbers)


def slot(check: SlotCheck, receipt: Receipt) -> CheckOutcome:
    found = receipt.slot
    if found is None:
        return CheckOutcome(None, "this run read no slot")
    kept = found.retained_bytes / 1e9
    text = f"wal_status is {found.wal_status}; the server keeps {kept:,.3f} GB of WAL for slot {found.name}"
    numbers: dict[str, Any] = {"slot": found.name, "wal_status": found.wal_status} | {
        "retained_bytes": found.retained_bytes,
        "lag_bytes": found.lag_bytes,
    }
    if found.safe_bytes is not None:
        numbers["safe_bytes"] = found.safe_bytes
    if found.wal_status not in ("reserved", "extended"):
        then = (
            "the connector needs a new slot, and every run scans the tables until then"
            if receipt.consumed
            else ("the next run recreates the slot, and scans its tables")
        )
        text += f". The server has removed WAL that the slot needs, or is about to; {then}"
        return CheckOutcome(False, text, ERROR, numbers)
    if kept > check.max_retained_gb:
        text += f", more than {check.max_retained_gb:,g} GB: runs are too rare, runs fail, or a transaction stays open"
        return CheckOutcome(False, text, WARN, numbers)
    return CheckOutcome(True, text, ERROR, numbers)


def watermark(receipt: Receipt) -> CheckOutcome:
    """Compare the snapshots of the watermarks, which every strategy records. After a full read, any may follow."""
    before, after = receipt.watermark_before, receipt.watermark_after.snapshot
    numbers = {"horizon": str(after.xmin), "lag_seconds": metadata.milliseconds(receipt.watermark_lag_seconds)}
    if before is None:
        return CheckOutcome(True, f"First watermark: horizon {after.xmin}", ERROR, numbers)
    moved = (after.xmin - before.snapshot.xmin, after.xmax - before.snapshot.xmax)
    # The rows of the chunks of a load were visible in the snapshot of the watermark before.
    applied = (
        receipt.inserted
        + receipt.updated
        + receipt.deleted
        - (receipt.load.inserted + receipt.load.updated if receipt.load else 0)
    )
    if receipt.disposition is not Disposition.REPLACE:
        if min(moved) < 0:
            text = f"The watermark went back from transaction {before.snapshot.xmax} to {after.xmax}"
            return CheckOutcome(False, text, ERROR, numbers)
        # A reconcile or a reload also repairs rows of transactions that earlier runs have read.
        if applied and not any(moved) and not (receipt.repair or receipt.because):
            text = f"{applied:,} rows were applied, but the watermark is still at transaction {after.xmax}"
            return CheckOutcome(False, text, ERROR, numbers)
    return CheckOutcome(True, f"Horizon {after.xmin}, moved by {moved[0]:,} transactions", ERROR, numbers)


def merge_key(receipt: Receipt) -> CheckOutcome:
    """Find keys that a row shares with a row of an earlier increment: the merge then makes one row of two.

    The warehouse has already refused NULL and duplicate keys among the staged rows.
    """
    if not receipt.key:
        return CheckOutcome(True, "No merge key: rows are distinguished by their content")
    key = ", ".join(receipt.key)
    numbers = {"merge_key": key, "rows_exported": receipt.rows_exported}
    if receipt.source_rows is not None and receipt.target_rows < receipt.source_rows:
        shared = receipt.source_rows - receipt.target_rows
        return CheckOutcome(False, f"Up to {shared:,} rows have the same ({key}) as another row", ERROR, numbers)
    return CheckOutcome(True, f"({key}) is unique and never null", ERROR, numbers)


def certificate(receipt: Receipt) -> CheckOutcome:
    """Warn if the run relies on an assumption that nobody checks: rows may be lost, though none is known to be."""
    found = receipt.certificate
    numbers = {"level": found.level.value, "changes": ", ".join(found.changes), **found.rests_on}
    text = f"{found.level.value}: {found.text}"
    return CheckOutcome(found.level is not Level.UNCERTIFIED, text, WARN, numbers)


def schema(receipt: Receipt, earlier: Sequence[ColumnChange] = ()) -> CheckOutcome:
    """Warn about changed columns, so that somebody checks the readers of the target: those of this run, and ``earlier``
    ones, because the next run is often half a minute later."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    shown = [*earlier, *((now, receipt.run_sequence, change) for change in receipt.schema_changes)]
    if not shown:
        return CheckOutcome(True, f"No column changed in the last {CHANGES_SHOWN.days} days", WARN)
    text = "; ".join(f"run {number}: {change.text}" for _, number, change in shown)
    return CheckOutcome(
        False,
        f"{text}. {_ends(shown[-1][0])}",
        WARN,
        {
            "changes": metadata.schema_changes(change for *_, change in shown),
            CHANGES: dg.MetadataValue.json(as_json(shown)),
        },
    )


def adjusted(receipt: Receipt, earlier: Sequence[Adjustment] = ()) -> CheckOutcome:
    """Warn about values that the target does not have as the source does: those of this run, and ``earlier`` ones."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    shown = [*earlier, *((now, receipt.run_sequence, str(each)) for each in receipt.adjusted)][-ADJUSTMENTS_SHOWN:]
    if not shown:
        return CheckOutcome(True, f"No value was changed in the last {CHANGES_SHOWN.days} days", WARN)
    text = "; ".join(f"run {number}: {values}" for _, number, values in shown)
    return CheckOutcome(False, f"{text}. {_ends(shown[-1][0])}", WARN, {ADJUSTMENTS: dg.MetadataValue.json(shown)})


def _ends(last: str) -> str:
    return f"This warning ends at {datetime.fromisoformat(last) + CHANGES_SHOWN:%Y-%m-%d %H:%M} UTC"


def _changes_lately(key: dg.AssetCheckKey, instance: dg.DagsterInstance) -> list[ColumnChange]:
    """Return the changes that the last evaluation of a schema check shows and that are still to be shown."""
    found = _lately(key, instance, CHANGES)
    return [(at, number, Finding(**{**each, "action": Action(each["action"])})) for at, number, each in found]


def _lately(key: dg.AssetCheckKey, instance: dg.DagsterInstance, name: str) -> list[tuple[str, int, Any]]:
    """Return what the last evaluation of a check shows in its metadata entry ``name`` and is still to be shown."""
    last = compat.last_verdict(instance, key)
    entry = last.metadata.get(name) if last else None
    if not isinstance(entry, dg.JsonMetadataValue) or not isinstance(entry.value, list):
        return []
    known = [(at, number, each) for at, number, each in entry.value]
    return [each for each in known if datetime.now(UTC) - datetime.fromisoformat(each[0]) < CHANGES_SHOWN]


def with_last_verified(outcome: CheckOutcome, last: Mapping[str, Any] | None) -> CheckOutcome:
    """Add the last verdict of ``verify`` to the outcome: a warning if it found a difference.

    Only another verification removes the warning. A reconcile compares transaction ids, and does not see a value that
    was edited in the target.
    """
    if last is None:
        return outcome
    moment = f"at run sequence {last['run_sequence']}, as of {last['as_of'][:19]} UTC"
    text = f"{'equal' if last['equal'] else difference(last)} {moment}"
    numbers = {**outcome.numbers, "last_verified": text}
    if last["equal"] or not outcome.passed:
        return replace(outcome, numbers=numbers)
    numbers = {"verdict": outcome.text, **numbers, COUNTS_AGREE: True}
    found = f"{outcome.text}. But verify found differences between source and target: {text}. {_REMEDY}"
    return CheckOutcome(False, found, WARN, numbers)


def as_verdict(found: Verification) -> dict[str, Any]:
    """Return the part of a verification that later runs need, as JSON."""
    document = found.to_json()
    return {name: document[name] for name in ("equal", "run_sequence", "as_of", "missing", "different", "ghosts")}


def difference(verdict: Mapping[str, Any]) -> str:
    """Return the numbers of rows that differ, for a verdict that is not equal."""
    return f"{verdict['missing']:,} missing, {verdict['different']:,} different, {verdict['ghosts']:,} surplus rows"


def last_verdicts(instance: dg.DagsterInstance, verification: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """Return the verdicts in the last observation of a group's verification: table -> verdict."""
    last = compat.last_observation(instance, verification)
    entry = last.metadata.get(VERDICTS) if last else None
    return dict(entry.value) if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.value, dict) else {}


def verification_of(receipt: Receipt) -> Verification:
    """Return the verification in the receipt of a run that verified."""
    assert receipt.verification is not None, "a verification compares or fails"
    return receipt.verification


def _carried(key: dg.AssetCheckKey, reason: str, receipt: Receipt, instance: dg.DagsterInstance) -> CheckOutcome:
    """Repeat the last verdict with a note: a declared check without a result would fail the step.

    An idle run has the run sequence of the run before it, which may be the one that was judged.
    """
    last = compat.last_verdict(instance, key)
    carried = dict(last.metadata) if last else {}
    agreed = COUNTS_AGREE in carried and carried.pop(COUNTS_AGREE)
    verdict = carried.setdefault("verdict", dg.TextMetadataValue((last.description if last else None) or "none"))
    judged = carried[_JUDGED_AT].value if _JUDGED_AT in carried else None
    if str(judged) == str(receipt.run_sequence):
        note = f"As of run sequence {judged}, and not evaluated again: {reason}"
    else:
        note = f"Not evaluated at run sequence {receipt.run_sequence}: {reason}"
    return CheckOutcome(
        passed=bool(agreed or last is None or last.passed),
        text=f"{note}. Last verdict: {verdict.value}",
        severity=last.severity if last else WARN,
        numbers=carried,
    )

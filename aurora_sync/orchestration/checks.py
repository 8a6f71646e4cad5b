"""The asset checks of a table, judged from its receipt alone: same step, same snapshot, no query.

=========== ==========================================================================================
row_count   source and target as of one snapshot; fewer rows in the target is always a failure, more of
            them a warning where the strategy cannot see deletes, or where verify last found a difference
watermark   never backwards, and forwards when rows were applied
merge_key   never null, and no two rows share one
certificate what the run guarantees is proved, or bounded by a lag that it names
slot        of a stream: no WAL that it needs is gone or about to go, and not too much is kept for it
schema      a warning, with before and after, of the run in which columns of the source or the target changed
=========== ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from aurora_sync.config.checks import Check, RowCountCheck, SlotCheck
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Level
from aurora_sync.model.foreign_text import markdown
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.verification import Verification
from aurora_sync.orchestration import compat, metadata
from aurora_sync.strategies import strategy_of

COUNTS_AGREE = "counts_agree"  # of a row_count that warns for another reason
VERDICTS = "verdicts"  # the metadata entry of a verification that is read back

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

_REMEDY = (
    "A reconcile repairs rows that are missing, stale or gone, a full read also what was edited in the target; another"
    " verification takes this back"
)
_DESCRIPTIONS = {
    "row_count": "The target holds as many rows as the source did in the snapshot that was read.",
    "watermark": "The watermark never moves backwards, and forwards when rows were applied.",
    "merge_key": "The merge key is never null, and no two rows share one.",
    "certificate": "What was committed before the snapshot is in the target, provably.",
    "slot": "The server has all the WAL that the replication slot needs, and keeps not too much of it.",
    "schema": "The columns of source and target are those of the run before; else, what changed.",
}


@dataclass(frozen=True)
class CheckOutcome:
    """``passed`` None: this run has nothing to judge by, the last verdict stands. ``text`` becomes the description of a
    check, which is Markdown: a verdict of a run before has been escaped then."""

    passed: bool | None
    text: str
    severity: dg.AssetCheckSeverity = ERROR
    numbers: dict[str, Any] = field(default_factory=dict)


def enabled(table: TableConfig) -> dict[str, Check]:
    checks: dict[str, Check] = {
        name: getattr(table.checks, {"schema": "schema_"}.get(name, name)) for name in _DESCRIPTIONS
    }
    if not strategy_of(table).uses_slot:
        del checks["slot"]
    return {name: check for name, check in checks.items() if check.enabled}


def specs(table: TableConfig, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
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
    """One result for every enabled check, as Dagster demands of a step that declares them. ``verification`` is the
    asset whose last verdict on the table the row_count check carries; None where the receipt has a new one."""
    for name, check in enabled(table).items():
        outcome = judge(name, check, receipt)
        if outcome.passed is None:
            outcome = _carried(dg.AssetCheckKey(key, name), outcome.text, receipt, instance)
        else:
            outcome = replace(outcome, text=markdown(outcome.text))
            outcome.numbers["judged_at_run_sequence"] = receipt.run_sequence
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
    if isinstance(
        check, RowCountCheck
    ):  # counted, or not, in the snapshot that was read: engine/sync.py follows `every`
        return row_count(check, receipt)
    if isinstance(check, SlotCheck):
        return slot(check, receipt)
    if receipt.run_sequence % check.every:
        return CheckOutcome(None, f"judged at every {check.every}th applied run")
    judges = {"watermark": watermark, "merge_key": merge_key, "certificate": certificate, "schema": schema}
    return judges[name](receipt)


def row_count(check: RowCountCheck, receipt: Receipt) -> CheckOutcome:
    source, target = receipt.source_rows, receipt.target_rows
    if source is None:
        return CheckOutcome(
            None, f"counted at every {check.every}th applied run" if receipt.changed else "nothing changed"
        )
    excess = target - source
    numbers = {"source_rows": source, "target_rows": target, "excess_rows": excess}
    if abs(excess) <= check.tolerance * source:
        near = f", within the tolerance of {check.tolerance:.2%}" if excess else ""
        return CheckOutcome(True, f"{target:,} rows in the target, {source:,} in the source{near}", ERROR, numbers)
    if excess < 0:
        return CheckOutcome(False, f"The target lacks {-excess:,} of the source's {source:,} rows", ERROR, numbers)
    if receipt.sees_deletes:
        text = f"The target holds {excess:,} rows that the source, with {source:,}, does not"
        return CheckOutcome(False, text, ERROR, numbers)
    text = (
        f"The target holds {excess:,} rows more than the source's {source:,}: rows deleted at the source,"
        f" which {receipt.strategy} cannot see"
    )
    return CheckOutcome(False, text, WARN, numbers)


def slot(check: SlotCheck, receipt: Receipt) -> CheckOutcome:
    found = receipt.slot
    if found is None:
        return CheckOutcome(None, "this run read no slot")
    kept = found.retained_bytes / 1e9
    text = f"{found.wal_status}; {kept:,.3f} GB of WAL are kept for slot {found.name}"
    numbers: dict[str, Any] = {"slot": found.name, "wal_status": found.wal_status} | {
        "retained_bytes": found.retained_bytes,
        "lag_bytes": found.lag_bytes,
    }
    if found.safe_bytes is not None:
        numbers["safe_bytes"] = found.safe_bytes
    if found.wal_status not in ("reserved", "extended"):
        then = (
            "the connector needs a new one, and every run scans until then"
            if receipt.consumed
            else ("the next run makes it anew, and scans its tables")
        )
        text += f": the server is about to take it away, or has; {then}"
        return CheckOutcome(False, text, ERROR, numbers)
    if kept > check.max_retained_gb:
        text += f", more than {check.max_retained_gb:,g} GB: runs are rare, or fail, or a transaction stays open"
        return CheckOutcome(False, text, WARN, numbers)
    return CheckOutcome(True, text, ERROR, numbers)


def watermark(receipt: Receipt) -> CheckOutcome:
    """By the snapshots, which every strategy records; a full read may start anew, whatever was before."""
    before, after = receipt.watermark_before, receipt.watermark_after.snapshot
    numbers = {"horizon": after.xmin, "lag_seconds": metadata.milliseconds(receipt.watermark_lag_seconds)}
    if before is None:
        return CheckOutcome(True, f"First watermark: horizon {after.xmin}", ERROR, numbers)
    moved = (after.xmin - before.snapshot.xmin, after.xmax - before.snapshot.xmax)
    applied = receipt.inserted + receipt.updated + receipt.deleted
    if receipt.disposition is not Disposition.REPLACE:
        if min(moved) < 0:
            text = f"The watermark went back from transaction {before.snapshot.xmax} to {after.xmax}"
            return CheckOutcome(False, text, ERROR, numbers)
        if applied and not any(moved):
            text = f"{applied:,} rows were applied, but the watermark still is at transaction {after.xmax}"
            return CheckOutcome(False, text, ERROR, numbers)
    return CheckOutcome(True, f"Horizon {after.xmin}, moved by {moved[0]:,} transactions", ERROR, numbers)


def merge_key(receipt: Receipt) -> CheckOutcome:
    """The warehouse refused NULL and doubled keys among the staged rows, or there were no receipt; what is left
    is a key shared with a row of an earlier increment, which makes one row of two."""
    if not receipt.key:
        return CheckOutcome(True, "No merge key: rows are told apart by their content")
    key = ", ".join(receipt.key)
    numbers = {"merge_key": key, "rows_exported": receipt.rows_exported}
    if receipt.source_rows is not None and receipt.target_rows < receipt.source_rows:
        shared = receipt.source_rows - receipt.target_rows
        return CheckOutcome(False, f"Up to {shared:,} rows share ({key}) with another row", ERROR, numbers)
    return CheckOutcome(True, f"({key}) is unique and never null", ERROR, numbers)


def certificate(receipt: Receipt) -> CheckOutcome:
    """A warning where the read rests on something that nobody checks: rows may be lost, none is known to be."""
    found = receipt.certificate
    numbers = {"level": found.level.value, "changes": ", ".join(found.changes), **found.rests_on}
    text = f"{found.level.value}: {found.text}"
    return CheckOutcome(found.level is not Level.UNCERTIFIED, text, WARN, numbers)


def schema(receipt: Receipt) -> CheckOutcome:
    """A warning in the run that applied a change, so that somebody looks at what reads the target."""
    if not receipt.schema_changes:
        return CheckOutcome(True, "No column changed since the run before", WARN)
    shown = {"changes": metadata.schema_changes(receipt.schema_changes)}
    return CheckOutcome(False, "; ".join(change.text for change in receipt.schema_changes), WARN, shown)


def with_last_verified(outcome: CheckOutcome, last: Mapping[str, Any] | None) -> CheckOutcome:
    """The outcome with what ``verify`` found last: a warning where that was a difference. Only another verification
    takes it back: a reconcile goes by transaction ids, and does not see a value that was edited in the target."""
    if last is None:
        return outcome
    moment = f"at run sequence {last['run_sequence']}, as of {last['as_of'][:19]} UTC"
    text = f"{'equal' if last['equal'] else difference(last)} {moment}"
    numbers = {**outcome.numbers, "last_verified": text}
    if last["equal"] or not outcome.passed:
        return replace(outcome, numbers=numbers)
    numbers = {"verdict": outcome.text, **numbers, COUNTS_AGREE: True}
    found = f"{outcome.text}. But verify found source and target different: {text}. {_REMEDY}"
    return CheckOutcome(False, found, WARN, numbers)


def as_verdict(found: Verification) -> dict[str, Any]:
    """What is remembered of a verification, as JSON."""
    document = found.to_json()
    return {name: document[name] for name in ("equal", "run_sequence", "as_of", "missing", "different", "ghosts")}


def difference(verdict: Mapping[str, Any]) -> str:
    """How many rows are not the same, of one that is not equal."""
    return f"{verdict['missing']:,} missing, {verdict['different']:,} different, {verdict['ghosts']:,} surplus rows"


def last_verdicts(instance: dg.DagsterInstance, verification: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """By table, what the last materializations of a group's verification found."""
    last = compat.last_materialization(instance, verification)
    entry = last.metadata.get(VERDICTS) if last else None
    return dict(entry.value) if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.value, dict) else {}


def verification_of(receipt: Receipt) -> Verification:
    assert receipt.verification is not None, "a verification compares or fails"
    return receipt.verification


def _carried(key: dg.AssetCheckKey, reason: str, receipt: Receipt, instance: dg.DagsterInstance) -> CheckOutcome:
    """The last verdict again, saying so: a declared check without a result fails the step."""
    last = compat.last_verdict(instance, key)
    carried = dict(last.metadata) if last else {}
    agreed = COUNTS_AGREE in carried and carried.pop(COUNTS_AGREE)
    verdict = carried.setdefault("verdict", dg.TextMetadataValue((last.description if last else None) or "none yet"))
    return CheckOutcome(
        passed=bool(agreed or last is None or last.passed),
        text=f"Not judged at run sequence {receipt.run_sequence}: {reason}. Last verdict: {verdict.value}",
        severity=last.severity if last else WARN,
        numbers=carried,
    )

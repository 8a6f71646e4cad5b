"""The text and the JSON documents of ``aurora-sync triggers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg2.extensions import connection as Connection

from aurora_sync.provisioning.triggers.audit_columns import UPDATED
from aurora_sync.provisioning.triggers.backfill import ROWS_PER_SECOND
from aurora_sync.provisioning.triggers.fired import Trial
from aurora_sync.provisioning.triggers.installed import TriggerKind
from aurora_sync.provisioning.triggers.steps import TriggerStep


def document(connection: Connection, kind: TriggerKind | None, steps: Sequence[TriggerStep]) -> dict[str, Any]:
    """Return the steps of one table as a JSON document. ``kind`` is None for the removal of both kinds."""
    return {
        "kind": kind,
        "steps": [
            {
                "what": step.what,
                "statements": [statement.as_string(connection) for statement in step.statements],
                "lock": step.lock,
                "undo": [statement.as_string(connection) for statement in step.undo],
            }
            for step in steps
        ],
    }


def text_lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the text for a :func:`document` of the table ``name``."""
    yield f"{name}: {found['kind']}" if found["kind"] else name
    number = 0
    for number, step in enumerate(found["steps"], 1):
        yield f"  {number}. {step['what']}"
        yield from (f"     {line}" for s in step["statements"] for line in f"{s};".splitlines())
        yield f"     lock: {step['lock']}"
        if step["undo"]:
            yield f"     undo: {' '.join(f'{statement};' for statement in step['undo'])}"
    if rows := found.get("backfill_rows"):
        yield f"  {number + 1}. give about {rows:,} rows their first {UPDATED}, batch by batch"
        yield "     lock: rows of one batch, none that somebody else has locked"
        seconds = rows / ROWS_PER_SECOND
        yield f"     at least {seconds:,.0f} s at --busy 1; may be interrupted, and goes on when run again"
    elif not number:
        yield "  nothing is missing" if found["kind"] else "  nothing of ours is there"
    yield from (f"  warning: {warning}" for warning in found.get("warnings", ()))
    yield from (f"  in use: {text}" for text in found.get("in_use", ()))


def trial_text(trial: Trial) -> str:
    said = {True: "fired", False: "DID NOT FIRE", None: "not tried"}[trial.fired]
    return f"  {said:12}  {trial.what}, by {trial.by}" + (f": {trial.why}" if trial.why else "")

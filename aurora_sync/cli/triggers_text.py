"""The text and the JSON documents of ``aurora-sync triggers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg2.extensions import connection as Connection

from aurora_sync.cli.printing import Alert, Verbatim
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
        yield from (Verbatim(f"     {line}") for s in step["statements"] for line in f"{s};".splitlines())
        yield f"     lock: {step['lock']}"
        if step["undo"]:
            yield Verbatim(f"     undo: {' '.join(f'{statement};' for statement in step['undo'])}")
    if rows := found.get("backfill_rows"):
        yield f"  {number + 1}. fill {UPDATED} in about {rows:,} rows, batch by batch"
        yield "     lock: the rows of one batch; rows that another session has locked are left for later"
        seconds = rows / ROWS_PER_SECOND
        yield f"     at least {seconds:,.0f} s at --busy 1; it can be interrupted, and the next run continues it"
    elif not number:
        yield "  nothing is missing" if found["kind"] else "  it has no triggers of aurora_sync"
    yield from (Alert(f"  warning: {warning}") for warning in found.get("warnings", ()))
    yield from (f"  in use: {text}" for text in found.get("in_use", ()))


def trial_text(trial: Trial) -> str:
    said = {True: "fired", False: "DID NOT FIRE", None: "not tried"}[trial.fired]
    text = f"  {said:12}  {trial.what}, by {trial.by}" + (f": {trial.why}" if trial.why else "")
    return Alert(text) if trial.fired is False else text

"""The lines of ``aurora-sync status`` around its table: what needs attention, and the command for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from aurora_sync.cli.printing import Alert, Verbatim
from aurora_sync.engine.report import load_line
from aurora_sync.model.load import Load

State = dict[str, Any]
_NAMED = 5  # tables that are named for one cause


def needs_attention(state: State) -> bool:
    """Return whether a person must act. A bounded certificate is what the strategy promises, so it is no such cause."""
    return not state["run_sequence"] or state["certificate"]["level"] == "uncertified"


def attention_lines(states: Sequence[State]) -> Iterator[str]:
    """Yield a line that counts the tables that need attention, then each cause with the tables and the command."""
    causes: dict[tuple[str, str], list[str]] = {}
    for state in filter(needs_attention, states):
        causes.setdefault(_cause(state), []).append(state["table"])
    total = "1 table" if len(states) == 1 else f"{len(states):,} tables"
    if not causes:
        yield f"OK: {total}, none needs attention"
        return
    count = sum(map(len, causes.values()))
    yield Alert(f"{count:,} of {total} need{'s' if count == 1 else ''} attention")
    for (cause, command), tables in causes.items():
        more = f" and {len(tables) - _NAMED:,} more" if len(tables) > _NAMED else ""
        yield f"  {', '.join(tables[:_NAMED])}{more}: {cause}"
        names = [] if len(tables) == len(states) else [shlex.quote(table) for table in tables]
        yield Verbatim(f"    run: {' '.join(['aurora-sync', command, *names])}")


def bounded_lines(states: Sequence[State]) -> Iterator[str]:
    """Yield the reason of each certificate that is bounded."""
    for state in states:
        if state["certificate"] and state["certificate"]["level"] == "bounded":
            yield from ("", f"{state['table']} is bounded: {state['certificate']['text']}")


def _cause(state: State) -> tuple[str, str]:
    """Return what is wrong with the table, and the command that mends it."""
    if not state["run_sequence"]:
        return "never synced", "sync"
    if load := load_of(state):
        return f"loading, {load_line(load)}", "sync"
    return f"uncertified: {state['certificate']['text']}", "reconcile"


def load_of(state: State) -> Load | None:
    """Return the progress of the table's load in chunks; None when no load is open."""
    found = (state.get("watermark") or {}).get("load")
    return Load.from_json(found) if found else None

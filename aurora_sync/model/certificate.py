"""The certificate of an increment, and the findings that it names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from aurora_sync.model.as_json import as_json


class Action(Enum):
    """The reaction of a run to a change of its source."""

    GO_ON = "go on"
    WIDEN = "widen"  # read from further back
    ADAPT = "adapt"  # change the target's columns
    BACKFILL = "backfill"  # fill a new column of the target
    RECONCILE = "reconcile"  # compare with the source, and repair
    RESEED = "reseed"  # read the whole table; it replaces the target's content in one transaction


@dataclass(frozen=True)
class Finding:
    """A change of the source since the watermark was taken, and the reaction to it. A change of the table's definition
    has a description of the state ``before`` and ``after``."""

    event: str
    action: Action
    text: str
    before: str = ""
    after: str = ""

    @property
    def is_schema_change(self) -> bool:
        return bool(self.before or self.after)


class Level(Enum):
    CERTIFIED = "certified"  # nothing that was committed before the snapshot is missing
    BOUNDED = "bounded"  # nothing is missing except what a named lag covers
    UNCERTIFIED = "uncertified"


@dataclass(frozen=True)
class Reconciled:
    """The last reconcile or full read: the run that compared the whole target with its source, or replaced it."""

    run_sequence: int
    as_of: datetime  # of the snapshot


@dataclass(frozen=True)
class Certificate:
    """The guarantee that an increment gives about its target: for which kinds of ``changes``, and in words why."""

    level: Level
    changes: tuple[str, ...]  # inserts, updates, deletes
    text: str
    rests_on: dict[str, str] = field(default_factory=dict)  # snapshot, horizon, fence, token
    findings: tuple[Finding, ...] = ()
    reconciled: Reconciled | None = None

    def to_json(self) -> str:
        return json.dumps(as_json(self), sort_keys=True)

    @staticmethod
    def reconciled_in(text: str) -> Reconciled | None:
        """Return the last reconcile that the JSON of a certificate names, None when it names none."""
        found = json.loads(text)["reconciled"]
        return found and Reconciled(found["run_sequence"], datetime.fromisoformat(found["as_of"]))

"""The two JSON documents of the stage: parsing of the manifest, and the hint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aurora_sync.model.buckets import Buckets
from aurora_sync.model.certificate import Action, Certificate, Finding, Level, Reconciled
from aurora_sync.model.column import Column
from aurora_sync.model.load import Chunk
from aurora_sync.model.manifest import Disposition, Evolution, Manifest, Part, StagedFile, TakenFile
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark


@dataclass(frozen=True)
class Hint:
    """A copy of a table's state in the sync log, made when the log was last written or read.

    An idle run starts from it without waking the warehouse. It may be out of date: the compare-and-set at commit
    decides. ``target`` names the warehouse of the log.
    """

    table: str
    target: str
    state: State
    confirmed_at: datetime
    manifest_uri: str | None
    version: int = 1

    def to_json(self) -> str:
        watermark, applied_at, reconciled = self.state.watermark, self.state.applied_at, self.state.reconciled
        return json.dumps(
            {
                "version": self.version,
                "table": self.table,
                "target": self.target,
                "run_sequence": self.state.run_sequence,
                "load_id": self.state.load_id,
                "watermark": watermark and json.loads(watermark.to_json()),
                "target_rows": self.state.target_rows,
                "applied_at": applied_at and applied_at.isoformat(),
                "reconciled": reconciled and [reconciled.run_sequence, reconciled.as_of.isoformat()],
                "idle_runs": self.state.idle_runs,
                "size": self.state.size,
                "written": self.state.target,
                "confirmed_at": self.confirmed_at.isoformat(),
                "manifest": self.manifest_uri,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Hint:
        """Parse the JSON of :meth:`to_json`. Raises ValueError for a newer version or a document of another shape."""
        document = _document(text)
        if document.get("version") != 1:
            raise ValueError(f"the hint has version {document.get('version')!r}, but this release reads version 1")
        try:
            applied_at, reconciled = document["applied_at"], document["reconciled"]
            return cls(
                table=document["table"],
                target=document["target"],
                state=State(
                    run_sequence=int(document["run_sequence"]),
                    watermark=_watermark(document["watermark"]),
                    load_id=document["load_id"],
                    target_rows=int(document["target_rows"]),
                    applied_at=datetime.fromisoformat(applied_at) if applied_at else None,
                    reconciled=reconciled and Reconciled(reconciled[0], datetime.fromisoformat(reconciled[1])),
                    idle_runs=int(document["idle_runs"]),
                    size=tuple(document["size"]) if document.get("size") else None,
                    target=tuple(document["written"]) if document.get("written") else None,
                ),
                confirmed_at=datetime.fromisoformat(document["confirmed_at"]),
                manifest_uri=document["manifest"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a hint: {error!r}") from error


def manifest_from_json(text: str | bytes) -> Manifest:
    """Parse the JSON of :meth:`Manifest.to_json`. Raises ValueError for a document of another shape."""
    document = _document(text)
    try:
        after, repaired = _watermark(document["watermark_after"]), document["repaired"]
        if after is None:
            raise ValueError("the manifest has no watermark_after")
        return Manifest(
            table=document["table"],
            load_id=document["load_id"],
            prefix=document["prefix"],
            disposition=Disposition(document["disposition"]),
            files=tuple(StagedFile(**file) for file in document["files"]),
            columns=tuple(Column(**column) for column in document["columns"]),
            key=tuple(document["key"]),
            watermark_before=_watermark(document["watermark_before"]),
            watermark_after=after,
            expected_sequence=int(document["expected_sequence"]),
            expected_load_id=document["expected_load_id"],
            source_rows=document["source_rows"],
            certificate=_certificate(document["certificate"]),
            evolution=_evolution(document["evolution"]),
            fill=document["fill"],
            parts=tuple(Part(**part) for part in document["parts"]),
            taken=tuple(TakenFile(**file) for file in document["taken"]),
            comment=document.get("comment"),
            chunk=Chunk.from_json(document["chunk"]) if document.get("chunk") else None,
            net_rows=document["net_rows"],
            log_position=document.get("log_position", 0),
            history=tuple(StagedFile(**file) for file in document["history"]),
            repaired=repaired and Buckets(repaired["width"], repaired["labels"] and tuple(repaired["labels"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a manifest: {error!r}") from error


def _certificate(value: dict[str, Any]) -> Certificate:
    return Certificate(
        level=Level(value["level"]),
        changes=tuple(value["changes"]),
        text=value["text"],
        rests_on=value["rests_on"],
        findings=tuple(Finding(**{**found, "action": Action(found["action"])}) for found in value["findings"]),
        reconciled=Certificate.reconciled_in(json.dumps(value)),
    )


def _evolution(value: dict[str, Any]) -> Evolution:
    return Evolution(
        renamed=value["renamed"],
        dropped=tuple(value["dropped"]),
        retyped=tuple(value["retyped"]),
        former_key=tuple(value["former_key"]),
        rekeyed=value["rekeyed"],
    )


def _document(text: str | bytes) -> Mapping[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("expected a JSON object")
    return document


def _watermark(value: dict[str, Any] | None) -> Watermark | None:
    return None if value is None else Watermark.from_json(json.dumps(value))

"""A certificate for tests that need one but test something else."""

from __future__ import annotations

from aurora_sync.model.certificate import Certificate, Level

CERTIFIED = Certificate(Level.CERTIFIED, ("inserts", "updates"), "every change is in the target")

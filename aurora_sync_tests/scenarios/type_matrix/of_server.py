"""The types that the server under test has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aurora_sync_tests.fixtures.server_build import missing
from aurora_sync_tests.scenarios.type_matrix.cases import Case
from aurora_sync_tests.scenarios.world import World


def of_server(world: World, cases: Sequence[Case], subtests: pytest.Subtests) -> list[Case]:
    """Return the cases that the server has. What it lacks is a skipped subtest: a type, or the infinite numerics."""
    found = []
    for case in cases:
        if lacks := missing(world.dsn, major=case.since, what=case.type, extension=case.extension):
            _skip(subtests, case, lacks)
        elif case.type == "numeric" and (lacks := missing(world.dsn, major=14, what="infinite numerics")):
            _skip(subtests, case, lacks)
            found.append(replace(case, exact=tuple(value for value in case.exact if "Infinity" not in value)))
        else:
            found.append(case)
    return found


def _skip(subtests: pytest.Subtests, case: Case, reason: str) -> None:
    with subtests.test(case=case.type):
        pytest.skip(reason)

"""The types that the server under test has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aurora_sync_tests.fixtures.server_build import missing
from aurora_sync_tests.scenarios.type_matrix.cases import Case
from aurora_sync_tests.scenarios.world import World


def of_server(world: World, cases: Sequence[Case], subtests: pytest.Subtests) -> list[Case]:
    """Return the cases that the server has. What it lacks is a skipped subtest: a type, or its infinite values."""
    found = []
    for case in cases:
        if lacks := missing(world.dsn, major=case.since, what=case.type, extension=case.extension):
            _skip(subtests, case, lacks)
        elif lacks := missing(world.dsn, major=case.infinite_since, what=f"an infinite {case.type}"):
            _skip(subtests, case, lacks)
            found.append(replace(case, exact=tuple(each for each in case.exact if "infinity" not in each.lower())))
        else:
            found.append(case)
    return found


def _skip(subtests: pytest.Subtests, case: Case, reason: str) -> None:
    with subtests.test(case=case.type):
        pytest.skip(reason)

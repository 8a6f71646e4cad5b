"""A world whose database has the functions of aws_s3, and the exporter with small files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_sync.source.aurora_export import AuroraExport
from aurora_sync_tests.fixtures.aurora_functions import AuroraFunctions
from aurora_sync_tests.scenarios.logical.conftest import streamed as streamed  # a fixture
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def world(world: World, aurora_functions: AuroraFunctions) -> World:
    return world


def with_files_of(world: World, size: int) -> None:
    """Let a call write about this many bytes."""
    exporters = {**world.places.source.exporters, "aurora": AuroraExport(call_bytes=size)}
    world.places = replace(world.places, source=replace(world.places.source, exporters=exporters))

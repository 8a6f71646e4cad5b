"""The round trip on the local stack, and, marked ``live``, on Aurora, S3 and Snowflake themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aurora_sync.config.settings import Settings
from aurora_sync_tests.live.roundtrip import roundtrip


def test_every_strategy_brings_every_row_to_duckdb(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path
) -> None:
    environment = {**store_environment, "AURORA_DSN": dsn, "AURORA_SYNC_WAREHOUSE": f"duckdb:{warehouse_path}"}
    roundtrip(Settings.from_environment(environment))


@pytest.mark.live
def test_every_strategy_brings_every_row_to_the_warehouse_of_the_environment() -> None:
    """Without the settings this fails and names them: a live run that tests nothing is no success."""
    roundtrip(Settings.from_environment(os.environ))

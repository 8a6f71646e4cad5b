"""A source whose clock is set while it runs."""

from __future__ import annotations

import functools
import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from aurora_sync.embedded import postgres
from aurora_sync.embedded.process import launch
from aurora_sync.embedded.stack import Stack
from aurora_sync.model.certificate import Level
from aurora_sync.source import identity_token
from aurora_sync.source.fences import clock as clock_fence
from aurora_sync_tests.fixtures.local_stack import scratch
from aurora_sync_tests.fixtures.private_server import PrivateServer, private_server
from aurora_sync_tests.scenarios.world import World, config

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the package libfaketime is built for no other"
)
BY_TIME = config(watermark_type="timestamp", watermark_col="updated_at")
TABLE = """
CREATE TABLE t (id int PRIMARY KEY, v text, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE t ENABLE ALWAYS TRIGGER touch;
INSERT INTO t VALUES (1, 'old'), (2, 'old');
"""


@dataclass(frozen=True)
class Clock:
    """The clock of a server: the machine's clock plus ``seconds``, which a test may set while the server runs."""

    file: Path

    def set(self, seconds: int) -> None:
        aside = self.file.with_suffix(".new")
        aside.write_text(f"{seconds:+d}", encoding="ascii")
        aside.chmod(0o644)
        aside.rename(self.file)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Yield the clock of the servers that are started in the test."""
    found = importlib.util.find_spec("libfaketime")
    assert found is not None
    assert found.origin is not None
    with scratch() as folder:
        library = folder / "libfaketime.so.1"  # a folder that PostgreSQL's account can read
        shutil.copy(Path(found.origin).parent / "vendor/libfaketime/src" / library.name, library)
        library.chmod(0o755)
        made = Clock(folder / "clock")
        made.set(0)
        environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(made.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        monkeypatch.setattr(postgres, "launch", functools.partial(launch, environment=environment))
        yield made


@pytest.fixture
def server(clock: Clock, stack: Stack) -> Iterator[PrivateServer]:
    with private_server(stack) as started:
        yield started


@pytest.fixture
def stepping(server: PrivateServer, tmp_path: Path, stage_url: str, store_environment: dict[str, str]) -> World:
    return World(server.dsn(), stage_url, tmp_path / "warehouse.duckdb")


class SevenMinutesLater(datetime):
    """The runner's clock at the second run, seven minutes later."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=7)


def test_row_written_after_the_clock_was_set_back_is_exported(
    stepping: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back by five minutes between two runs that are seven minutes apart, so the second snapshot has
    the later time."""
    stepping.execute(TABLE)
    stepping.sync(BY_TIME)
    first = stepping.sync(BY_TIME)
    assert (first.method, first.certificate.level) == ("clock fence", Level.CERTIFIED)
    assert "the clocks of source and runner" in first.certificate.rests_on["clocks"]

    clock.set(-300)
    stepping.execute("UPDATE t SET v = 'new' WHERE id = 2")
    clock.set(-300 + 420)
    for module in (identity_token, clock_fence):
        monkeypatch.setattr(module, "datetime", SevenMinutesLater)
    fence = first.watermark_after.value["fence"]
    # rows that the fence alone would find
    assert stepping.execute(f"SELECT id FROM t WHERE updated_at >= '{fence}'") == [(1,)]

    second = stepping.sync(BY_TIME)
    assert second.watermark_after.snapshot.taken_at > first.watermark_after.snapshot.taken_at
    assert second.method == "horizon scan"
    assert "is -300.0 s now: one of the clocks was set" in second.warnings[0]
    stepping.assert_equal(BY_TIME)
    assert stepping.sync(BY_TIME).method == "clock fence"  # the clock was not set since

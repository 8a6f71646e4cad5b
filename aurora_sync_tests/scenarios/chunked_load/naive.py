"""Loads in chunks without a snapshot from before the first chunk, as plain SELECTs. They lose rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from aurora_sync_tests.scenarios.chunked_load.trial import Trial
from aurora_sync_tests.scenarios.world import World

# 40 rows, five in a block: a chunk is a block, or five keys. The last one has no end.
CHUNKS, ROWS_OF_CHUNK = 8, 5
# The steps of the writers while one chunk is read and loaded, as many as in a trial of our load.
STEPS_OF_CHUNK = 4
READ = "SELECT id, v FROM t WHERE "


@dataclass
class Naive:
    """Loads of one table by several naive loaders. Each reads the chunks one after the other, and then once what was
    written since its watermark.

    - ``blocks``: ranges of blocks, and nothing afterwards.
    - ``horizon``: ranges of blocks, and every row with an xmin from the horizon of a snapshot after the last chunk.
    - ``times``: ranges of the key, and every row with a time after the newest one in a snapshot after the last chunk.
    """

    world: World
    blocks: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._first = self._read("true")

    def read_chunk(self, number: int) -> None:
        last = number + 1 == CHUNKS
        end = "" if last else f" AND ctid < '({number + 1},0)'"
        self.blocks |= self._read(f"ctid >= '({number},0)'{end}")
        low, high = number * ROWS_OF_CHUNK, (number + 1) * ROWS_OF_CHUNK
        self.keys |= self._read(f"id > {low}" if last else f"id > {low} AND id <= {high}")

    def end(self) -> None:
        """Take the watermarks, after the last chunk."""
        self._always = self._first.keys() & self._read("true").keys()
        newest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, max(updated_at)::text FROM t"
        ((self._horizon, self._newest),) = self.world.execute(newest)

    def lost(self) -> dict[str, set[int]]:
        """Catch up, and return the keys of the rows that each loader lacks, or has with a former value. ``blocks`` does
        not catch up: for it, they are the keys that it lacks of those that the table had all the time."""
        now = self._read("true")
        horizon = self.blocks | self._read(f"xmin::text::bigint >= {self._horizon}")
        times = self.keys | self._read(f"updated_at > '{self._newest}'")
        lost = {
            name: {id_ for id_, v in now.items() if held.get(id_) != v}
            for name, held in (("horizon", horizon), ("times", times))
        }
        return {"blocks": self._always - self.blocks.keys(), **lost}

    def _read(self, where: str) -> dict[int, str]:
        return dict(self.world.execute(READ + where))


def naive_losses(trial: Trial) -> dict[str, set[int]]:
    """Load the table of a trial naively, beside its writers. Return the keys that each loader loses."""
    with trial.writing() as writers:
        naive = Naive(trial.world)
        for number in range(CHUNKS):
            writers.step()
            naive.read_chunk(number)
            for _ in range(STEPS_OF_CHUNK - 1):
                writers.step()
        naive.end()
        writers.step()
        writers.finish()
        return naive.lost()

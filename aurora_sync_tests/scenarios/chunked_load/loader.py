"""A process that syncs a table in chunks, for tests that kill it: ``python -m … DSN STAGE WAREHOUSE PROCESSES``.

It prints a line when a chunk is loaded, and ``done`` at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from aurora_sync.engine import one_chunk
from aurora_sync.source.copy_out import Progress
from aurora_sync_tests.scenarios.chunked_load.loads import CHUNK, chunked
from aurora_sync_tests.scenarios.world import World


@contextmanager
def loading(world: World, parallel: int) -> Iterator[subprocess.Popen[str]]:
    """Run the process in a group of its own, and end the group at the end."""
    command = [sys.executable, "-m", __name__, world.dsn, world.stage_url, str(world.warehouse_path), str(parallel)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    dsn, stage, warehouse, parallel = sys.argv[1:]
    world = World(dsn, stage, Path(warehouse))
    apply = one_chunk.apply_chunk

    def applying(*arguments: Any) -> bool:
        done = apply(*arguments)
        print("chunk", flush=True)
        return done

    def report(progress: Progress) -> None:
        if parallel != "1" and progress.share:
            print("chunk", flush=True)

    with mock.patch.object(one_chunk, "apply_chunk", applying):
        world.sync(chunked(load={**CHUNK, "parallel": int(parallel)}), on_progress=report)
    print("done", flush=True)


if __name__ == "__main__":
    main()

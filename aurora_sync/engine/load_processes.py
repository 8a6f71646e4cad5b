"""Chunks of a load in several processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from time import monotonic

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError, Kind


def in_processes(
    config: TableConfig,
    numbers: Iterable[int],
    load: Callable[[int], object],
    is_closed: Callable[[float], bool],
    on_loaded: Callable[[int], None],
) -> bool:
    """Call ``load`` with each number, in the processes of the table. Returns False when ``is_closed`` ended it before
    the last one: it gets the seconds that a call takes, 0 before the first ended. ``on_loaded`` gets the number of
    calls that have ended. Raises AuroraSyncError, transient, when a process is killed."""
    left, begun, parallel = iter(numbers), monotonic(), config.load.parallel
    loaded, closed = 0, False
    with ProcessPoolExecutor(parallel, mp_context=get_context("spawn"), initializer=_end_with_loader) as pool:
        running: set[Future[object]] = set()
        try:
            while True:
                while len(running) < parallel and not closed:
                    closed = is_closed((monotonic() - begun) * parallel / loaded if loaded else 0.0)
                    number = None if closed else next(left, None)
                    if number is None:
                        break
                    running.add(pool.submit(load, number))
                if not running:
                    return not closed
                done = next(as_completed(running))
                running.remove(done)
                done.result()
                loaded += 1
                on_loaded(loaded)
        except BrokenExecutor as error:
            raise AuroraSyncError(
                "a process that loaded chunks was killed, perhaps because the memory of this machine ran out",
                where=config.qualified_name,
                hint=f"chunks that were loaded stay loaded: run again, with fewer than {parallel} processes"
                " (`--parallel`, or load in tables.yaml) if it happens again",
                kind=Kind.TRANSIENT,
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_loader() -> None:
    """Let this process end when its loader is killed. The pool alone would wait for the loader's next chunk forever."""
    loader = parent_process()
    assert loader

    def wait() -> None:
        loader.join()
        os._exit(1)

    Thread(target=wait, name="end-with-loader", daemon=True).start()

"""The lease of a load in chunks, so that two loaders do not read the same chunks at the same time.

It saves work; no row depends on it. It is an object in the stage, whose name has a number: a loader takes or renews the
lease by writing the next number, which only one can do.

A lease that processes share, on several hosts, outlives each of them. Each process renews it while it works, and the
last one releases it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import Kind, StageError
from aurora_sync.model import foreign_text
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout

logger = foreign_text.logger(__name__)

# A lease is renewed long before it ends. A loader that was killed leaves it behind for this time.
SECONDS, RENEWED_AFTER = 90.0, 30.0
# Nobody renews a shared lease between the end of one process and the begin of the next, which may wait for a machine.
SHARED_SECONDS = 300.0


class LeaseError(StageError):
    """The error of a load that another process holds."""

    default_kind = Kind.TRANSIENT


@dataclass(frozen=True)
class _Held:
    holder: str  # for people, and to recognise one's own lease
    host: str
    pid: int | None  # None: of no single process
    until: str

    @property
    def ended(self) -> bool:
        """Return whether the time is over, or the process on this host does not exist any more."""
        if datetime.now(UTC) >= datetime.fromisoformat(self.until):
            return True
        return self.pid is not None and self.host == socket.gethostname() and not _exists(self.pid)


class Lease:
    """The lease of one table, as a context manager. Raises LeaseError when another loader holds it.

    ``shared_by`` names a loader of several processes, which share the lease. The end of the context does not release a
    shared lease; :meth:`release` does. By default this process is the loader.
    """

    def __init__(self, store: Store, config: TableConfig, shared_by: str = "") -> None:
        self._store, self._table = store, config.qualified_name
        self._prefix = layout.lease_prefix(store.prefix, f"{self._table} to {'.'.join(config.target)}")
        self._shared = bool(shared_by)
        self._holder = shared_by or f"process {os.getpid()} on {socket.gethostname()}"
        self._ended = threading.Event()
        self._lost: StageError | None = None
        self._thread = threading.Thread(target=self._renew_until_it_ends, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if self._lost:
            return  # another loader may hold it now
        if not self._shared:
            self.release()

    def release(self) -> None:
        """End the lease, unless another loader holds it."""
        try:
            keys = self._store.list(self._prefix)
            held = self._held_by(keys[-1]) if keys else None
            if held and held.holder == self._holder:
                self._store.delete(keys)
        except StageError as error:
            logger.warning("%s: the lease of the load ends in %.0f s: %s", self._table, self._seconds, error)

    def assert_held(self) -> None:
        """Raise LeaseError when the lease could not be renewed."""
        if self._lost:
            raise LeaseError(
                f"the lease of the load was lost: {self._lost}",
                where=self._table,
                hint="chunks that were loaded stay loaded; run again",
            )

    @property
    def _seconds(self) -> float:
        return SHARED_SECONDS if self._shared else SECONDS

    def _held_by(self, key: str) -> _Held | None:
        body = self._store.get(key)
        return _Held(**json.loads(body)) if body else None

    def _take(self) -> None:
        keys = self._store.list(self._prefix)
        held = self._held_by(keys[-1]) if keys else None
        if held and held.holder != self._holder and not held.ended:
            raise _is_held(held, self._table)
        number = layout.lease_number(keys[-1]) + 1 if keys else 1
        until = datetime.now(UTC) + timedelta(seconds=self._seconds)
        mine = _Held(self._holder, socket.gethostname(), None if self._shared else os.getpid(), until.isoformat())
        key = f"{self._prefix}{number:010d}"
        try:
            self._store.put_new(key, json.dumps(asdict(mine)).encode())
        except StageError as error:
            rival = self._held_by(key)
            if rival is None:
                raise
            if rival.holder != self._holder:
                raise _is_held(rival, self._table) from error
            return  # another process of this loader renewed it at the same time
        self._store.delete(keys)

    def _renew_until_it_ends(self) -> None:
        while not self._ended.wait(RENEWED_AFTER):
            try:
                self._take()
            except StageError as error:
                self._lost = error
                return


def _is_held(held: _Held, table: str) -> LeaseError:
    return LeaseError(
        f"{held.holder} loads the table in chunks, and holds the lease until {held.until[:19]}Z",
        where=table,
        hint="wait until it has finished, or end it; run again",
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""One connection to the warehouse that stays open for the next session of this process: a login takes long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Kept(Generic[Connection]):
    """At most one idle connection. Thread-safe. Nothing is kept before :meth:`keep`, nor in a forked process.

    An idle connection is closed after ``idle_seconds`` to twice that time. A connection that is older than
    ``most_seconds`` is closed after its session.
    """

    def __init__(self, close: Callable[[Connection], object], *, idle_seconds: float, most_seconds: float) -> None:
        self._close = close
        self._idle_seconds, self._most_seconds = idle_seconds, most_seconds
        self._guard = threading.Lock()
        self._process = 0  # the process that keeps connections
        self._ended = threading.Event()
        self._idle: tuple[Connection, float] | None = None  # with the time when it was opened
        self._idle_since = 0.0

    def __reduce__(self) -> tuple[object, ...]:
        """Another process, such as one that loads chunks, gets a place of its own, which keeps nothing."""
        return partial(Kept, self._close, idle_seconds=self._idle_seconds, most_seconds=self._most_seconds), ()

    def keep(self) -> None:
        """Begin to keep connections, in this process only, until :meth:`end`."""
        with self._guard:
            if self._process == os.getpid():
                return
            self._process, self._idle, self._ended = os.getpid(), None, threading.Event()
            threading.Thread(target=self._watch, args=(self._ended,), name="kept-connection", daemon=True).start()

    def take(self) -> tuple[Connection, float] | None:
        """Return the idle connection, for :meth:`leave` to give back, and the time when it was opened, by
        time.monotonic(); None when there is none."""
        with self._guard:
            if self._process != os.getpid():
                return None
            taken, self._idle = self._idle, None
            return taken

    def leave(self, connection: Connection, opened_at: float) -> None:
        """Keep a connection that has no open transaction, or close it."""
        now = time.monotonic()
        with self._guard:
            keeping = self._process == os.getpid() and self._idle is None
            if keeping and now - opened_at < self._most_seconds:
                self._idle, self._idle_since = (connection, opened_at), now
                return
        self._close(connection)

    def end(self) -> None:
        """Close the idle connection, and keep none any more."""
        idle = self.take()
        with self._guard:
            self._process = 0
            self._ended.set()
        if idle:
            self._close(idle[0])

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(self._idle_seconds):
            if time.monotonic() - self._idle_since >= self._idle_seconds and (idle := self.take()):
                self._close(idle[0])

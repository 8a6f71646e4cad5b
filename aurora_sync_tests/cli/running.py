"""Run a command of the command line, and SQL beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from aurora_sync.cli.main import main


class Command:
    """A command with actions, such as ``aurora-sync cdc``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def said(self, capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
        """Run an action, check its exit status, and return its standard output."""
        assert main([self._name, *arguments]) == status
        return capsys.readouterr().out

    def document(self, capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> Any:
        """Run an action with ``--json``, check its exit status, and return the document."""
        return json.loads(self.said(capsys, status, *arguments, "--json"))


def execute(dsn: str, *statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in statements:
            cursor.execute(statement)


class Screen:
    """What was written to a terminal."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@contextmanager
def terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, *streams: str, term: str = "xterm", no_color: bool = False
) -> Iterator[Screen]:
    """Make a terminal of this width the given standard streams. The screen is complete after the context."""
    screen = Screen()
    read, write = pty.openpty()
    fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def collect() -> None:
        data = b""
        try:
            while part := os.read(read, 65_536):
                data += part
        except OSError:  # Linux reports the end of a terminal as an error
            pass
        screen.text = data.decode().replace("\r\n", "\n")

    reader = threading.Thread(target=collect)
    reader.start()
    with monkeypatch.context() as patch:
        patch.setenv("TERM", term)
        patch.delenv("NO_COLOR", raising=False)
        if no_color:
            patch.setenv("NO_COLOR", "1")
        file = os.fdopen(write, "w", encoding="utf-8")
        for stream in streams:
            patch.setattr(sys, stream, file)
        try:
            yield screen
        finally:
            file.close()
            reader.join()
            os.close(read)

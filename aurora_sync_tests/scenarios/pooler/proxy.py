"""A minimal transaction pooler with one session of the server.

Like PgBouncer, it refuses startup parameters of a session. Unlike PgBouncer, it keeps the session of a client that
leaves in the middle of a transaction, after a ROLLBACK, and restores no settings, so that leaks are visible.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import connection as Connection

from aurora_sync_tests.fixtures.tcp_server import serve

_TLS, _GSS = 80877103, 80877104
_REPORTED = ("server_version", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes")


class _GoneError(Exception):
    """The peer closed the connection."""


@dataclass
class TransactionPooler:
    """Forwards whole messages, and gives the session to the next client at the end of each transaction."""

    login: Connection  # only its socket is used after libpq has logged in
    accepted: set[str] = field(default_factory=lambda: {"user", "database", "application_name", "client_encoding"})
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    free: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.server = socket.socket(fileno=self.login.fileno())
        self.server.setblocking(True)  # libpq sets it to non-blocking

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        serve(self.listener, self._client)

    def _client(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(client), suppress(_GoneError, OSError):
            if not self._greet(client):
                return
            while (message := _message(client))[:1] != b"X":
                with self.free:
                    self._transaction(client, message)

    def _greet(self, client: socket.socket) -> bool:
        """Handle the startup message; return whether the client is accepted."""
        while (code := struct.unpack("!I", (packet := _packet(client))[:4])[0]) in (_TLS, _GSS):
            client.sendall(b"N")
        if code != 196608:  # a request to cancel
            return False
        words = packet[4:].decode().split("\0")
        given = dict(zip(words[::2], words[1::2], strict=False))
        if unknown := [name for name in given if name and name not in self.accepted]:
            text = f"unsupported startup parameter: {unknown[0]}"
            client.sendall(_built(b"E", b"SFATAL\0VFATAL\0C08P01\0M" + text.encode() + b"\0\0"))
            return False
        client.sendall(_built(b"R", struct.pack("!I", 0)))
        for name in _REPORTED:
            client.sendall(_built(b"S", f"{name}\0{self.login.get_parameter_status(name)}\0".encode()))
        client.sendall(_built(b"Z", b"I"))
        return True

    def _transaction(self, client: socket.socket, message: bytes) -> None:
        try:
            while self._answered(client, message) != b"I":
                message = _message(client)
                if message[:1] == b"X":
                    raise _GoneError
        except (_GoneError, OSError):
            self.server.sendall(_built(b"Q", b"ROLLBACK\0"))
            while _message(self.server)[:1] != b"Z":
                pass
            raise

    def _answered(self, client: socket.socket, message: bytes) -> bytes:
        """Forward one message and the server's answer. Returns the state of the transaction."""
        self.server.sendall(message)
        while (answer := _message(self.server))[:1] != b"Z":
            with suppress(OSError):  # read to the end, even if the client is gone
                client.sendall(answer)
            if answer[:1] == b"G":  # COPY FROM STDIN
                while (data := _message(client))[:1] == b"d":
                    self.server.sendall(data)
                self.server.sendall(data)
        client.sendall(answer)
        return answer[5:]


def _built(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _message(end: socket.socket) -> bytes:
    kind = _exactly(end, 1)
    return _built(kind, _packet(end))


def _packet(end: socket.socket) -> bytes:
    return _exactly(end, struct.unpack("!I", _exactly(end, 4))[0] - 4)


def _exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := end.recv(size - len(data))):
            raise _GoneError
        data += more
    return data


@contextmanager
def transaction_pooler(dsn: str, *, ignored: Iterable[str] = ()) -> Iterator[TransactionPooler]:
    """Run a pooler in front of the database of ``dsn``, whose login all clients share. The startup parameters
    ``ignored`` are accepted without effect, like PgBouncer's ignore_startup_parameters."""
    with closing(psycopg2.connect(dsn)) as login:
        login.autocommit = True
        pooler = TransactionPooler(login)
        pooler.accepted |= set(ignored)
        thread = threading.Thread(target=pooler.serve, daemon=True)
        thread.start()
        try:
            yield pooler
        finally:
            pooler.listener.shutdown(socket.SHUT_RDWR)
            pooler.listener.close()
            thread.join()
            pooler.server.detach()

"""A proxy in front of a server that counts the bytes it sends, and disturbs the connection at a given byte."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from aurora_sync_tests.fixtures.tcp_server import serve

# Small buffers, so that a server that is stopped has not already sent everything.
BUFFER = 65536


@dataclass
class TcpProxy:
    """A proxy. When the server has sent ``at_byte`` bytes on a connection, ``happens`` is called with that
    connection."""

    host: str
    port: int
    at_byte: int | None = None
    happens: Callable[[Pair], None] = lambda _: None
    met: int = 0  # how often it happened
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def own_port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        serve(self.listener, self._connect)

    @contextmanager
    def doing(self, happens: Callable[[Pair], None], at_byte: int) -> Iterator[None]:
        self.happens, self.at_byte, self.met = happens, at_byte, 0
        try:
            yield
        finally:
            self.at_byte = None
        assert self.met, "no connection got as far as the fault"

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        pair = Pair(client, server)
        try:
            server.connect((self.host, self.port))
        except OSError:  # the server is down, so the proxy is too
            pair.close()
            return
        threading.Thread(target=pair.pump, args=(client, server), daemon=True).start()
        sent, done = 0, False

        def watch(size: int) -> None:
            nonlocal sent, done
            sent += size
            if self.at_byte is not None and sent >= self.at_byte and not done:
                done = True
                self.met += 1
                self.happens(pair)

        pair.pump(server, client, watch)


@dataclass
class Pair:
    client: socket.socket
    server: socket.socket

    def pump(self, from_: socket.socket, to: socket.socket, watch: Callable[[int], None] = lambda _: None) -> None:
        try:
            while data := from_.recv(BUFFER):
                watch(len(data))
                to.sendall(data)
        except OSError:  # the other direction has closed it
            pass
        finally:  # also when the fault itself fails: the client must not wait for ever
            self.close()

    def close(self) -> None:
        """Close the connection, as a server does that ends."""
        for end in (self.client, self.server):
            with closing(end), suppress(OSError):  # closed already
                end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Reset the connection, as a firewall or a restarted machine does."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it, which would keep it open
        self.client.close()
        self.close()


@contextmanager
def tcp_proxy(host: str, port: int) -> Iterator[TcpProxy]:
    proxy = TcpProxy(host, port)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        thread.join()

"""A proxy in front of an HTTP server that answers chosen requests itself, or corrupts their answers.

It forwards the Host header unchanged, because AWS signatures cover it.
"""

from __future__ import annotations

import gzip
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_OF_THE_CONNECTION = {"connection", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def text(self) -> str:
        body = gzip.decompress(self.body) if self.body.startswith(b"\x1f\x8b") else self.body
        return body.decode(errors="replace")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int | None = None  # the announced length, if it differs from the body's

    def without(self, name: str) -> Answer:
        return replace(self, headers=tuple(h for h in self.headers if not h[0].lower().startswith(name)))


Upstream = Callable[[Request], Answer]
# Handles a request; None: the connection is closed without an answer.
Behaviour = Callable[[Request, Upstream], Answer | None]


@dataclass
class HttpProxy:
    host: str
    port: int
    chosen: Callable[[Request], bool] = lambda _: False
    behaviour: Behaviour = lambda request, upstream: upstream(request)
    left: float = 0  # how many more of the chosen requests it affects
    met: int = 0
    server: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @contextmanager
    def doing(
        self, behaviour: Behaviour, chosen: Callable[[Request], bool], times: float = float("inf")
    ) -> Iterator[None]:
        """Apply this to the first ``times`` of the chosen requests."""
        self.behaviour, self.chosen, self.left, self.met = behaviour, chosen, times, 0
        try:
            yield
        finally:
            self.left = 0
        assert self.met, "no request met the fault"

    def answer(self, request: Request) -> Answer | None:
        with self.lock:
            spoiled = self.left > 0 and self.chosen(request)
            self.left -= spoiled
            self.met += spoiled
        return self.behaviour(request, self.upstream) if spoiled else self.upstream(request)

    def upstream(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in ("connection", "expect", "transfer-encoding"):
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            found = connection.getresponse()
            length = found.getheader("Content-Length")
            headers = tuple((n, v) for n, v in found.getheaders() if n.lower() not in _OF_THE_CONNECTION)
            body = found.read()
            return Answer(found.status, headers, body, int(length) if request.method == "HEAD" and length else None)
        finally:
            connection.close()


def _handler(proxy: HttpProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, tuple(self.headers.items()), body)
            answer = proxy.answer(request)
            self.close_connection = True
            if answer is None:
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has disconnected meanwhile."""


@contextmanager
def http_proxy(host: str, port: int) -> Iterator[HttpProxy]:
    proxy = HttpProxy(host, port)
    with _Server(("127.0.0.1", 0), _handler(proxy)) as proxy.server:
        thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.server.shutdown()
            thread.join()

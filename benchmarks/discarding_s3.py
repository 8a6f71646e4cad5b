"""An S3 endpoint that reads uploads and discards them, in a process of its own.

A real bucket takes no CPU of the machine that exports. The local S3 server takes half of a core, which the server and
the client would use.
"""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
_COMPLETED = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"


class _Uploads(socketserver.StreamRequestHandler):
    rbufsize = 2**20
    disable_nagle_algorithm = True

    def handle(self) -> None:
        buffer = memoryview(bytearray(self.rbufsize))
        while request := self.rfile.readline():
            method, path, _ = request.split()
            headers = {}
            while (line := self.rfile.readline()).strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            if headers.get(b"expect") == b"100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = int(headers.get(b"content-length", 0))
            while left and (read := self.rfile.readinto1(buffer[:left])):
                left -= read
            body = b"" if method != b"POST" else _BEGUN if path.endswith(b"uploads") else _COMPLETED
            head = 'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n'
            self.wfile.write(head.format(len(body)).encode() + body)


@contextmanager
def discarding_s3() -> Iterator[str]:
    """Start the endpoint, and return its URL."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Uploads) as listening:
        print(f"http://127.0.0.1:{listening.server_address[1]}", flush=True)
        listening.serve_forever()

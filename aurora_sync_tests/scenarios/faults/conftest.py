"""A synced and changed table, proxies in front of source and stage, and a small disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aurora_sync.engine.retries import retrying
from aurora_sync_tests.scenarios.faults.http_proxy import HttpProxy, http_proxy
from aurora_sync_tests.scenarios.faults.ordeal import Ordeal
from aurora_sync_tests.scenarios.faults.tcp_proxy import TcpProxy, tcp_proxy
from aurora_sync_tests.scenarios.world import World, config


@pytest.fixture
def ordeal(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ordeal:
    """Return an ordeal with the environment set to ``world``; commands retry without waiting. Call ``begin``."""
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables: [{table_name: t, watermark_type: xmin}]", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    monkeypatch.setitem(retrying.__kwdefaults__ or {}, "sleep", lambda _: None)
    return Ordeal(world, capsys, config())


@pytest.fixture
def source_proxy(world: World) -> Iterator[TcpProxy]:
    address = urlsplit(world.dsn)
    with tcp_proxy(str(address.hostname), int(address.port or 0)) as proxy:
        yield proxy


@pytest.fixture
def s3_proxy(store_environment: dict[str, str]) -> Iterator[HttpProxy]:
    address = urlsplit(store_environment["AWS_ENDPOINT_URL_S3"])
    with http_proxy(str(address.hostname), int(address.port or 0)) as proxy:
        yield proxy


@contextmanager
def mounted(path: Path, *, size: str) -> Iterator[None]:
    """Mount a file system in memory."""
    if os.geteuid() != 0:
        pytest.skip("a small disk has to be mounted, which takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of 8 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    with mounted(path, size="8m"):
        yield path

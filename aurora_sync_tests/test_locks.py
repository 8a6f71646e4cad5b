"""The installed packages are those of the lock files, by hash; so are the tools that install and build them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def test_there_is_a_lock_of_what_runs_what_tests_what_builds_and_what_documents() -> None:
    assert LOCKS == [
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements-docs.lock",
        "requirements-lambda.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_hashes(name: str) -> None:
    entries = re.sub(r"\\\n\s*", "", (ROOT / name).read_text(encoding="utf-8")).splitlines()
    pinned = re.compile(r"[\w.\[\],-]+==\S+( ; [^#]*?)?( *--hash=sha256:\w{64})+")
    assert entries
    assert [line for line in entries if not pinned.fullmatch(line)] == []


def test_a_function_of_lambda_has_all_that_is_required_but_dagster_and_the_command_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    required, engine = _names(project["project"]["dependencies"]), _names(project["dependency-groups"]["lambda"])
    command_line = {"rich", "shtab"}
    assert required - engine == {"dagster", "dagster-aws", "dagster-snowflake", "dagster-postgres", *command_line}
    assert engine <= required
    assert engine <= _names(_pins("requirements-lambda.lock"))


def test_a_function_of_lambda_runs_on_the_versions_that_are_tested() -> None:
    pins = _pins("requirements-lambda.lock")
    assert pins <= _pins("requirements.lock")
    assert pins <= _pins("requirements-dev.lock")
    absent = re.compile("dagster|duckdb|sqlglot|pandas|pyarrow|numpy")
    assert [name for name in _names(pins) if absent.match(name)] == []


def _pins(lock: str) -> set[str]:
    return set(re.findall(r"^[\w.\[\],-]+==[^\s;]+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))


def _names(requirements: Iterable[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}


def test_make_installs_nothing_that_no_lock_names() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert len(installs) >= 4
    for line in installs:
        assert "--require-hashes -r " in line or ("--no-deps" in line and "--no-build-isolation" in line), line

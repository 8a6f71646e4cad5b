"""What is installed is what the locks name, by hash: the packages, and the tools that install and build them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def test_there_is_a_lock_of_what_runs_what_tests_and_what_builds() -> None:
    assert LOCKS == ["requirements-build.lock", "requirements-dev.lock", "requirements.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_hashes(name: str) -> None:
    entries = re.sub(r"\\\n\s*", "", (ROOT / name).read_text(encoding="utf-8")).splitlines()
    pinned = re.compile(r"[\w.\[\],-]+==\S+( ; [^#]*?)?( *--hash=sha256:\w{64})+")
    assert entries
    assert [line for line in entries if not pinned.fullmatch(line)] == []


def test_make_installs_nothing_that_no_lock_names() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert len(installs) >= 4
    for line in installs:
        assert "--require-hashes -r " in line or ("--no-deps" in line and "--no-build-isolation" in line), line

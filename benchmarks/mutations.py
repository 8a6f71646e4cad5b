"""Mutation tests: apply one small fault to the package at a time, and run the tests that could notice it.

::

    python benchmarks/mutations.py                     every mutation of mutations.toml
    python benchmarks/mutations.py horizon_excluded    this one
    python benchmarks/mutations.py --list              names, files and harm
    python benchmarks/mutations.py --unmutated         the same tests without a mutation; all must pass

The tracked files of the working tree are copied to a temporary folder. There the mutation is applied, and pytest runs
the tests that mutations.toml names, with the options of pyproject.toml. So ``make test`` also catches what is caught
here. Each outcome is appended to a file as one line of JSON.

======== =========================================================================================================
caught   a test failed; ``by`` names the first one
survived all tests passed
broken   no verdict: nothing was collected, a fixture failed, a worker died, an import failed, or time ran out
passed   only with ``--unmutated``: all tests of all mutations passed
failed   only with ``--unmutated``: the test in ``by`` failed, so "caught" by this test proves nothing
======== =========================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TESTS = "aurora_sync", "aurora_sync_tests"
MUTATIONS = ROOT / "benchmarks" / "mutations.toml"
RESULTS = ROOT / "benchmarks" / "results" / "mutations.jsonl"
# Every selection of tests takes less than half of this time, even on a busy machine.
LIMIT_SECONDS = 900
# Limit of one test: a mutation may prevent an event that a test waits for.
TEST_SECONDS = 300
# Time for fixtures to stop their servers.
STOP_SECONDS = 90
# Beginnings of messages of failures that are not caused by a mutation.
_SAYS_NOTHING = ("ImportError", "ModuleNotFoundError", "SyntaxError", "Failed: Timeout", "worker '")


@dataclass(frozen=True)
class Mutation:
    """One edit of one file. ``tests`` are pytest paths below the folder of the tests."""

    name: str
    file: str
    before: str
    after: str
    harm: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Edit the file below ``root``. Raises ValueError unless the text ``before`` occurs exactly once in it."""
        path = root / PACKAGE / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (found := text.count(self.before)) != 1:
            raise ValueError(f"mutation {self.name}: expected once, found {found} times in {path}: {self.before!r}")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")

    def missing_tests(self, root: Path) -> list[str]:
        return [test for test in self.tests if not (root / TESTS / test.partition("::")[0]).exists()]


@dataclass(frozen=True)
class Outcome:
    outcome: str
    by: str | None
    seconds: float


def load(path: Path = MUTATIONS) -> list[Mutation]:
    """Return the mutations in the order of the file. Raises TypeError if an entry lacks a key or has an unknown one."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Mutation(name, **{**entry, "tests": tuple(entry["tests"])}) for name, entry in entries.items()]


@contextlib.contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """Copy the tracked files to a temporary folder. At the end, remove the copy, and stop servers of its tests."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "copy"
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():  # a tracked file may be deleted in the working tree
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
        try:
            yield copy
        finally:
            _remove_stacks(Path(folder))


def run(copy: Path, tests: Sequence[str], *, workers: int, seed: int | None, limit: int, stop_early: bool) -> Outcome:
    """Run tests of the copy, for at most ``limit`` seconds. With ``stop_early``, stop at the first failure."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    where = [sys.executable, "-c", f"import {PACKAGE}, {TESTS}; print({PACKAGE}.__file__, {TESTS}.__file__)"]
    imported = subprocess.run(where, cwd="/", env=environment, check=True, capture_output=True, text=True).stdout
    if not all(Path(file).is_relative_to(copy) for file in imported.split()):
        raise RuntimeError(f"expected the package and the tests of {copy}, found {imported}")
    report = copy.parent / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), f"--junitxml={report}"]
    command += ["-x"] if stop_early else []
    command += [f"--basetemp={copy.parent / 'pytest'}", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}"]
    if seed is not None:
        command += ["-p", "randomly", f"--randomly-seed={seed}"]
    elif importlib.util.find_spec("pytest_randomly"):
        command += ["-p", "no:randomly"]
    command += [f"{TESTS}/{test}" for test in tests]
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _stop(process)
            return Outcome("broken", f"not finished after {limit} s", time.monotonic() - began)
        except BaseException:
            _stop(process)
            raise
    outcome, by = verdict(process.returncode, report, output)
    return Outcome(outcome, by, time.monotonic() - began)


def verdict(status: int, report: Path, output: str) -> tuple[str, str | None]:
    """Return outcome and test id or reason, from pytest's exit status, its JUnit report and its output."""
    if status == 0:
        return "survived", None
    said = next(iter(reversed(output.strip().splitlines())), "no output")
    if status not in (1, 2) or not report.is_file():  # 2 is "interrupted", the status of xdist with -x
        return "broken", f"pytest ended with status {status}: {said}"
    doubtful = said
    for name, kind, message in _failures(report):
        if kind == "failure" and not message.startswith(_SAYS_NOTHING):
            return "caught", name
        doubtful = f"{name}: {message[:200]}"
    return "broken", doubtful


def _failures(report: Path) -> Iterator[tuple[str, str, str]]:
    """Yield id, kind and message of each test that did not pass. ``error`` is the kind for fixtures and collection."""
    for case in ElementTree.parse(report).iter("testcase"):
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                yield _node_id(case.get("classname", ""), case.get("name", "")), kind, found.get("message", "")


def _node_id(classname: str, name: str) -> str:
    """Convert the names in a JUnit report to the id of a test.

    >>> _node_id("aurora_sync_tests.objects.test_store", "test_it[a]")
    'aurora_sync_tests/objects/test_store.py::test_it[a]'
    >>> _node_id("aurora_sync_tests.test_it.TestAll", "test_one")
    'aurora_sync_tests/test_it.py::TestAll::test_one'
    """
    parts = classname.split(".")
    module = next((place for place, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return "::".join(["/".join(parts[: module + 1]) + ".py", *parts[module + 1 :], name])


def _stop(process: subprocess.Popen[str]) -> None:
    """Stop the workers as Ctrl-C does, so that fixtures stop their servers. Kill what remains after STOP_SECONDS."""
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
        for worker in psutil.Process(process.pid).children():
            worker.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([psutil.Process(process.pid), *tree], timeout=STOP_SECONDS)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def _remove_stacks(folder: Path) -> None:
    """Stop servers of test sessions that were killed."""
    from aurora_sync.embedded.stack import Stack

    for state in folder.rglob("state.json"):
        with contextlib.suppress(OSError):
            Stack(state.parent).remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of mutations; default: all")
    parser.add_argument("--list", action="store_true", help="print the mutations, and run nothing")
    parser.add_argument("--unmutated", action="store_true", help="run the tests of all mutations once, as they are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to append to")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, help="shuffle the tests (pytest-randomly); default: in their order")
    arguments = parser.parse_args()
    known = {mutation.name: mutation for mutation in load()}
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no mutation is called {', '.join(unknown)}")
    chosen = [known[name] for name in arguments.names] or list(known.values())
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.name:<40} {mutation.file}\n    {mutation.harm}\n    {' '.join(mutation.tests)}")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = Results(arguments.results, arguments.seed)
    options = {"workers": arguments.workers, "seed": arguments.seed}
    if arguments.unmutated:
        tests = list(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
        with copy_of(ROOT) as copy:
            found = run(copy, tests, **options, limit=LIMIT_SECONDS * len(tests), stop_early=False)
            failures = list(_failures(copy.parent / "report.xml")) if found.outcome != "survived" else []
        if found.outcome == "survived":
            results.add("unmutated", Outcome("passed", None, found.seconds))
        for name, _, message in failures:
            results.add("unmutated", Outcome("failed", f"{name}: {message[:200]}", found.seconds))
        if found.outcome == "broken" and not failures:
            results.add("unmutated", found)
    for mutation in [] if arguments.unmutated else chosen:
        with copy_of(ROOT) as copy:
            mutation.apply(copy)
            results.add(mutation.name, run(copy, mutation.tests, **options, limit=LIMIT_SECONDS, stop_early=True))
    sys.exit(not results.good)


class Results:
    """Print the outcomes, and append them to a file. ``good`` is False after an outcome that needs attention."""

    def __init__(self, path: Path, seed: int | None) -> None:
        self.good = True
        self._path = path
        self._seed = seed

    def add(self, name: str, found: Outcome) -> None:
        self.good = self.good and found.outcome in ("caught", "passed")
        by = f"  by {found.by}" if found.by else ""
        print(f"{found.outcome:<8} {found.seconds:6.1f} s  {name}{by}", flush=True)
        line = {
            "name": name,
            "commit": _commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self._seed,
            "outcome": found.outcome,
            "by": found.by,
            "seconds": round(found.seconds, 1),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as results:
            results.write(json.dumps(line) + "\n")


def _commit() -> str:
    """Return the commit of the checkout, with + if package or tests differ from it."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", PACKAGE, TESTS], cwd=ROOT, check=False).returncode
    return commit.strip() + "+" * changed


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

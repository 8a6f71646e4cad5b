"""The mutations of benchmarks/mutations.py apply to the current package, so that a campaign can run at any commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import mutations
from benchmarks.mutations import PACKAGE, ROOT, Mutation


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a folder with a package of one file."""
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "sync.py").write_text("a = 1\nb = 1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("mutation", mutations.load(), ids=lambda mutation: mutation.name)
def test_mutation_applies_and_its_tests_exist(mutation: Mutation, tmp_path: Path) -> None:
    file = Path(PACKAGE) / mutation.file
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(ROOT / file, tmp_path / file)
    mutation.apply(tmp_path)
    mutated = (tmp_path / file).read_text(encoding="utf-8")
    assert mutated != (ROOT / file).read_text(encoding="utf-8")
    compile(mutated, mutation.file, "exec")
    assert mutation.missing_tests(ROOT) == []


@pytest.mark.parametrize(("before", "found"), [("= 1", 2), ("c = 1", 0)])
def test_text_that_does_not_occur_once_is_an_error_that_names_the_mutation(
    copied: Path, before: str, found: int
) -> None:
    mutation = Mutation("wrong", "sync.py", before, "= 2", harm="", tests=())
    with pytest.raises(ValueError, match=f"mutation wrong: expected once, found {found} times"):
        mutation.apply(copied)
    assert (copied / PACKAGE / "sync.py").read_text(encoding="utf-8") == "a = 1\nb = 1\n"


def test_file_that_is_gone_is_an_error_that_names_the_mutation(copied: Path) -> None:
    with pytest.raises(ValueError, match="mutation wrong: expected once, found 0 times"):
        Mutation("wrong", "gone.py", "a = 1", "a = 2", harm="", tests=()).apply(copied)


def test_tests_that_are_gone_are_named() -> None:
    tests = ("test_mutations.py", "test_gone.py", "gone", "test_mutations.py::test_tests_that_are_gone_are_named")
    mutation = Mutation("name", "sync.py", "", "", harm="", tests=tests)
    assert mutation.missing_tests(ROOT) == ["test_gone.py", "gone"]


@pytest.mark.parametrize(
    ("status", "cases", "verdict"),
    [
        (0, "", ("survived", None)),
        (1, '<failure message="assert 1 == 2"/>', ("caught", "aurora_sync_tests/test_it.py::test_one")),
        (2, '<failure message="assert 1 == 2"/>', ("caught", "aurora_sync_tests/test_it.py::test_one")),
        (1, '<error message="no server"/>', ("broken", "aurora_sync_tests/test_it.py::test_one: no server")),
        (
            1,
            '<failure message="ImportError: x"/>',
            ("broken", "aurora_sync_tests/test_it.py::test_one: ImportError: x"),
        ),
        (5, "", ("broken", "pytest ended with status 5: the last line")),
    ],
)
def test_verdict_follows_from_the_report_of_pytest(
    tmp_path: Path, status: int, cases: str, verdict: tuple[str, str | None]
) -> None:
    report = tmp_path / "report.xml"
    case = f'<testcase classname="aurora_sync_tests.test_it" name="test_one">{cases}</testcase>'
    report.write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>", encoding="utf-8")
    assert mutations.verdict(status, report, "first\nthe last line\n") == verdict

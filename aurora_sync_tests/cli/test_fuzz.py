"""Hostile files and arguments on the command line end with an exit status and one paragraph, never a traceback."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_sync.cli.main import main
from aurora_sync_tests.config.test_fuzz import INTERNAL

COMMANDS = ("check", "plan", "status", "sync", "reconcile", "verify", "gc")
TABLES = "tables:\n- {table_name: orders, watermark_type: xmin}\n"


def run(*arguments: str) -> tuple[int, str, str]:
    """Run one command. Return exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as ended:  # argparse ends the process itself
            status = int(ended.code or 0)
    return status, out.getvalue(), err.getvalue()


def assert_clear(text: str) -> None:
    """Assert that the text is one short paragraph that shows nothing of Python's internals."""
    assert text.strip()
    assert "\n\n" not in text.strip()
    assert len(text) < 4_000
    assert not INTERNAL.search(text), text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module", autouse=True)
def _nothing_answers(folder: Path) -> Iterator[None]:
    """Set well-formed settings of places that do not exist. A connection to the source fails the test."""

    def connect(*_: object, **__: object) -> None:
        pytest.fail("connected to the source")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(psycopg2, "connect", connect)
        patch.setenv("AURORA_DSN", "host=127.0.0.1 port=1 user=u password=Ω dbname=d")
        patch.setenv("AURORA_SYNC_STAGE", "s3://bucket/prefix")
        patch.setenv("AURORA_SYNC_WAREHOUSE", "duckdb:w.duckdb")
        patch.setenv("AURORA_SYNC_TABLES", str(folder / "tables.yaml"))
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setattr("aurora_sync.objects.store._CLIENT", {"retries": {"total_max_attempts": 1}})
        yield


def text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


BOMB = "\n".join(["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 15))])
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, ": the file does not exist (set AURORA_SYNC_TABLES to the path of the file)"),
    "directory": (Path.mkdir, ": cannot be read: Is a directory"),
    "unreadable": (lambda path: path.symlink_to(path), ": cannot be read: Too many levels of symbolic links"),
    "error at reading": (lambda path: path.symlink_to("/proc/self/mem"), ": cannot be read: Input/output error"),
    "empty": (text(""), ": the file is empty; expected "),
    "binary": (text(bytes(range(256)) * 99), ":2: not UTF-8: found the byte 0x80 (save the file as UTF-8)"),
    "executable": (text(b"\x7fELF\2\1\1\0"), ":1: the character '\\x7f' is not allowed in YAML"),
    "huge line": (text(TABLES + "# " + "x" * 5_000_000 + "\n" + "y" * 5_000_000), ":4: "),
    "huge value": (
        text("tables: " + "x" * 5_000_000),
        ":1: found a string of 5,000,000 characters; expected at most 1,000",
    ),
    "bomb": (text(BOMB), ":1: with its aliases, the document has more than 200,000 values"),
    "deep": (text("tables: " + "[" * 500_000), ":1: the document is nested deeper than 20 levels"),
    "unknown key": (text("tabels: []\n"), ":1: tabels: unknown key (did you mean 'tables'?)"),
    "terminal": (text('"\\e[2J\\n": 1\n' + TABLES), ":1: \\x1b[2J\\n: unknown key"),
    "number": (text(TABLES.replace("xmin", "xmin, lookback: 0x" + "f" * 900)), ":2: table public.orders: lookback: "),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables_file_is_named_with_its_place_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    path = tmp_path / "tables.yaml"
    make, expected = BROKEN[name]
    make(path)
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(path))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    status, out, err = run(command)
    assert out == ""
    assert_clear(err)
    if command == "check":  # `check` continues with the other places
        assert status == 1
        assert err.startswith(f"{path}{expected}")
    else:
        assert status == 2
        assert err.startswith(f"error: {path}{expected}")
        assert sorted(tmp_path.iterdir()) == before


@given(st.sampled_from(["plan", "status", "sync"]), st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
@settings(max_examples=100)
def test_any_file_that_names_no_table_ends_a_command_with_one_error(folder: Path, command: str, raw: bytes) -> None:
    (folder / "tables.yaml").write_bytes(raw)
    status, out, err = run(command, "--json")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {folder / 'tables.yaml'}")
    assert_clear(err)


# Names of tables are globs: a name with * or ? may match an existing table.
words = st.text(st.characters(codec=None, exclude_characters="*?[\0-"), min_size=1, max_size=12)
options = st.sampled_from(["--bogus", "--full=5", "-", "--", "--older-than", "--json=x", "-x", "--tables"])


@given(st.sampled_from([*COMMANDS, "syncc", "", "\udcff"]), st.lists(words | options, min_size=1, max_size=4))
@settings(max_examples=150)
def test_any_arguments_that_name_no_table_end_with_one_error(folder: Path, command: str, arguments: list[str]) -> None:
    (folder / "tables.yaml").write_text(TABLES, encoding="utf-8")
    status, out, err = run(command, *arguments, "no such table")
    assert (status, out) == (2, "")
    assert_clear(err)

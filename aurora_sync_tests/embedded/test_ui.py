"""``aurora-sync ui`` leaves no process behind, however it ends."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from aurora_sync.embedded.process import free_block, is_alive
from aurora_sync.embedded.stack import Stack

ROOT = Path(__file__).parents[2]
MARK = "AURORA_SYNC_TEST_MARK"
PARTS = ("dagster_dev dev", "dagster_webserver", "dagster._daemon", "dagster api grpc")
pytestmark = pytest.mark.servers


class Project:
    """A folder with a Dagster project without assets, and the processes that run for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.mark = uuid.uuid4().hex
        self.port = free_block([0])
        (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
        (home / "workspace.yaml").write_text("load_from: [{python_file: definitions.py}]")
        (home / "definitions.py").write_text("import dagster\n\ndefs = dagster.Definitions()\n")

    def ui(self, *, dsn: str = "postgresql://nobody@127.0.0.1:1/none") -> subprocess.Popen[str]:
        """Start the command with ``dsn`` as AURORA_DSN. Its standard error goes to its standard output."""
        # A shell without job control starts background jobs, such as a test run, with SIGINT ignored; nohup starts them
        # with SIGHUP ignored.
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        heard += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        heard += "from aurora_sync.cli.main import main\n"
        script = f"{heard}raise SystemExit(main(['ui', '--port', '{self.port}']))"
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("AURORA_", "DAGSTER_"))}
        if dsn:
            environment["AURORA_DSN"] = dsn
        return subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=self.home,
            env=environment | {MARK: self.mark, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and is_alive(process):
                    found.append(process)
        return found

    def is_up(self) -> bool:
        """True if all parts of Dagster run and the webserver answers."""
        commands = []
        for process in self.processes():
            with suppress(psutil.Error):
                commands.append(" ".join(process.cmdline()))
        if not all(any(part in command for command in commands) for part in PARTS):
            return False
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection, suppress(OSError):
            connection.request("GET", "/server_info")
            return connection.getresponse().status == 200
        return False


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    for process in made.processes():
        process.kill()


def wait_until(holds: Callable[[], bool], ui: subprocess.Popen[str]) -> None:
    """Wait until a condition is true. The limit only ends a test that hangs."""
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, "it did not come up"
        assert ui.poll() is None, ui.communicate()[0]
        time.sleep(0.1)


def end(ui: subprocess.Popen[str], number: signal.Signals) -> str:
    ui.send_signal(number)
    return ui.communicate(timeout=300)[0]


def test_busy_port_is_an_error_before_anything_is_started(project: Project) -> None:
    with socket.create_server(("127.0.0.1", project.port)), project.ui() as ui:
        said, _ = ui.communicate(timeout=300)
    assert ui.returncode == 2
    assert said == (
        f"error: port {project.port} cannot be used: Address already in use (set another port with --port)\n"
    )
    assert not (project.home / ".aurora_sync").exists()


def test_second_ui_of_one_folder_is_refused(project: Project) -> None:
    folder = project.home / ".aurora_sync"
    folder.mkdir()
    with (folder / "ui.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with project.ui() as ui:
            said, _ = ui.communicate(timeout=300)
    assert (ui.returncode, project.processes()) == (2, [])
    assert f"{folder}: another `aurora-sync ui` serves this folder (stop that process first)" in said


def test_sigterm_leaves_no_process(project: Project) -> None:
    """The signal goes only to the started process, as systemd and `docker stop` send it."""
    with project.ui() as ui:
        wait_until(project.is_up, ui)
        said = end(ui, signal.SIGTERM)
    assert ui.returncode == 143
    assert "schedules and change sensor: off, except those that were turned on under Automation" in said
    assert "superseded" not in said
    assert "your DAGSTER_HOME environment variable" not in said
    assert project.processes() == []


@pytest.mark.long
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_no_other_end_leaves_a_process(project: Project, number: signal.Signals, status: int) -> None:
    with project.ui() as ui:
        wait_until(project.is_up, ui)
        end(ui, number)  # the output ends when the last process has ended
    assert ui.returncode == status
    assert project.processes() == []


@pytest.mark.long
def test_keeper_that_is_killed_leaves_no_process(project: Project) -> None:
    with project.ui() as ui:
        wait_until(project.is_up, ui)
        (keeper,) = psutil.Process(ui.pid).children()
        keeper.kill()
        ui.communicate(timeout=300)
    assert ui.returncode == 1
    assert project.processes() == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_local_stack_ends_with_the_ui(project: Project, number: signal.Signals) -> None:
    (project.home / "tables.yaml").write_text((ROOT / "tables.yaml").read_text())
    stack = Stack(project.home / ".aurora_sync", durable=False)
    try:
        with project.ui(dsn="") as ui:
            wait_until(project.is_up, ui)
            state = stack._load()
            assert state is not None
            assert is_alive(stack._postgres(state).process())
            end(ui, number)
        assert project.processes() == []
        assert not is_alive(stack._postgres(state).process())
        assert not is_alive(stack._objects(state).process())
    finally:
        stack.remove()

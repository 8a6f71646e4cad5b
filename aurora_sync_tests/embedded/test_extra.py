"""Errors of the local stack if its packages are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
sys.modules["psutil"] = None  # as if it were not installed
from aurora_sync.cli.main import main
print([main([command]) for command in ("demo", "ui", "clean", "status")])
"""


def test_every_command_that_needs_it_names_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / ".aurora_sync").mkdir()
    (tmp_path / ".aurora_sync" / "state.json").write_text("{}", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "AURORA_DSN"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[2, 2, 2, 2]\n"
    line = "error: the package psutil of the extra 'embedded' is not installed (pip install 'aurora-sync[embedded]')\n"
    assert done.stderr == 4 * line

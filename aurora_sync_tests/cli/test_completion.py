"""The completion of commands and options, in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from aurora_sync.cli.main import main

# Calls the function that `complete` names, as the Tab key does, and prints the proposed words.
_TAB = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p aurora-sync | sed -E 's/.*-F ([^ ]+) .*/\1/')
$function aurora-sync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "aurora-sync.bash"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "assessed.yaml").touch()
    return path


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (["rec"], ["reconcile"]),
        (["cdc", "te"], ["teardown"]),
        (["sync", "--fu"], ["--full"]),
        (["triggers", "apply", "--kind", "au"], ["audit_columns"]),
        (["assess", "--write", "asses"], ["assessed.yaml"]),
    ],
)
def test_bash_completes(script: Path, words: list[str], proposed: list[str]) -> None:
    command = ["bash", "--norc", "-c", _TAB, "bash", str(script), "aurora-sync", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=script.parent, check=True)
    assert (done.stdout.split(), done.stderr) == (proposed, "")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_scripts_of_other_shells_name_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert "aurora-sync" in printed
    assert "reconcile" in printed


def test_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "cmd"])
    assert ended.value.code == 2
    assert "invalid choice: 'cmd'" in capsys.readouterr().err

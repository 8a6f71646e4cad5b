"""Measure the time of ``aurora-sync --help``, as a ratio to ``python -c pass``.

::

    python benchmarks/startup.py --rounds 20

Both commands run in turn. The output is JSON: the medians of processor time (user and system) and of elapsed time, in
seconds, and the median of the ratios of each round. On a busy machine, processor time is more reliable.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "help": [sys.executable, "-m", "aurora_sync.cli.main", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    for command in COMMANDS.values():  # compiles Python files, and fills the cache of the file system
        measure(command)
    rounds = [{name: measure(command) for name, command in COMMANDS.items()} for _ in range(arguments.rounds)]
    found: dict[str, dict[str, float]] = {}
    for what in ("cpu", "clock"):
        medians = {name: statistics.median(each[name][what] for each in rounds) for name in COMMANDS}
        ratio = statistics.median(each["help"][what] / each["bare"][what] for each in rounds)
        found[what] = {name: round(value, 4) for name, value in medians.items()} | {"ratio": round(ratio, 2)}
    print(json.dumps(found, indent=1))


def measure(command: list[str]) -> dict[str, float]:
    """Run a command. Return its processor time and elapsed time in seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "clock": time.perf_counter() - began}


if __name__ == "__main__":
    main()

"""Trials of catalogue moves for a given time, on their own servers:

``python -m aurora_sync_tests.scenarios.catalogue_moves.soak --seconds 600 [--seed 7] [--reduced]
[--strategies xmin dms] [--results FILE]``

Fails when a certificate was false; with ``--reduced``, when none was. ``--results`` appends one line of JSON for each
trial.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aurora_sync.embedded.stack import BUCKET
from aurora_sync.model.certificate import Level
from aurora_sync_tests.fixtures.local_stack import switch_autovacuum_off, throwaway_stack
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.catalogue_moves.subject import STRATEGIES
from aurora_sync_tests.scenarios.catalogue_moves.trial import Trial, trial
from aurora_sync_tests.scenarios.world import World

LEVELS = [*(level.value for level in Level), "error"]


def soak(seconds: float, seed: int, strategies: Sequence[str], *, reduced: bool, results: Path | None) -> str | None:
    """Run trials of each strategy with the seeds ``seed``, ``seed + 1``, ...; return why they failed, or None."""
    tally: dict[str, Counter[str]] = {name: Counter() for name in strategies}
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, throwaway_stack() as stack:
        switch_autovacuum_off(stack.superuser_dsn())
        os.environ.update(stack.environment())
        while time.monotonic() < deadline:
            for strategy in strategies:
                warehouse = Path(folder) / f"{strategy}-{seed}.duckdb"
                with fresh_database(stack.superuser_dsn()) as dsn:
                    world = World(dsn, f"s3://{BUCKET}/{strategy}-{seed}", warehouse)
                    done = trial(world, strategy, seed, reduced=reduced)
                warehouse.unlink()
                tally[strategy].update(_counted(done))
                if results:
                    _append(results, done, reduced)
                if done.false and not reduced:
                    print(f"{strategy}, seed {seed}: {done.false[0].false}", *done.history, sep="\n    ", flush=True)
            seed += 1
    print(_table(tally))
    found = [name for name, line in tally.items() if line["false"]]
    if reduced:
        return None if found else "witnesses that see less gave no false certificate: the moves are too tame"
    return f"false certificates: {', '.join(found)}" if found else None


def _counted(done: Trial) -> Counter[str]:
    levels = {level: done.count(level) for level in LEVELS}
    return Counter(
        trials=1, runs=len(done.runs), moves=done.moves.total() - done.refused, false=len(done.false), **levels
    )


def _append(results: Path, done: Trial, reduced: bool) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    line: dict[str, Any] = {
        "commit": commit.stdout.strip(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "strategy": done.strategy,
        "seed": done.seed,
        "reduced": reduced,
        **{name: count for name, count in _counted(done).items() if name != "trials"},
    }
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _table(tally: dict[str, Counter[str]]) -> str:
    heads = ["trials", "runs", "moves", *LEVELS, "false"]
    lines = [f"{'strategy':14}" + "".join(f"{head:>13}" for head in heads)]
    lines += [f"{name:14}" + "".join(f"{line[head]:>13,}" for head in heads) for name, line in tally.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Random catalogue moves against the certificates of every strategy.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--reduced", action="store_true", help="witnesses that see less, which must be found wrong")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), help="default: all")
    parser.add_argument("--results", type=Path, help="append one line of JSON for each trial")
    arguments = parser.parse_args()
    failure = soak(
        arguments.seconds,
        arguments.seed,
        arguments.strategies,
        reduced=arguments.reduced,
        results=arguments.results,
    )
    sys.exit(f"FAILED: {failure}" if failure else 0)


if __name__ == "__main__":
    logging.getLogger("aurora_sync").setLevel(logging.CRITICAL)
    main()

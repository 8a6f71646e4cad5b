"""The random trials for a given time, on their own servers:

``python -m aurora_sync_tests.scenarios.random_writers.soak --seconds 600 [--seed 7]``

Fails when a strategy lost a row that it had certified, or when the naive SQL lost none in a minute or more.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aurora_sync.embedded.stack import BUCKET
from aurora_sync_tests.fixtures.local_stack import throwaway_stack
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.random_writers.trial import IDS, Outcome, Trial, trial
from aurora_sync_tests.scenarios.world import World

TRIAL_SECONDS = 5.0
# In a shorter soak there may by chance be no transaction that a naive cursor skips.
LONG = 60


@dataclass
class Line:
    """One line of the table: a strategy of the product or a naive one, over all trials so far."""

    trials: int = 0
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    certified: int = 0
    lost: int = 0
    lost_though_certified: int = 0

    def add(self, written: int, outcome: Outcome) -> None:
        self.trials += 1
        self.rows += written
        for kind in ("missing", "stale", "ghosts"):
            self.counts[kind] += len(getattr(outcome.difference, kind))
        self.certified += outcome.certified
        self.lost += len(outcome.lost)
        self.lost_though_certified += len(outcome.lost) if outcome.certified else 0


@dataclass
class Tally:
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)  # by strategy, and the product or naive

    def add(self, done: Trial) -> None:
        for whose, outcomes in (("ours", done.ours), ("naive", done.naive)):
            for name, outcome in outcomes.items():
                self.lines.setdefault((name, whose), Line()).add(done.written, outcome)

    def verdict(self, seconds: float) -> str | None:
        """Return why a soak of so many seconds failed, or None."""
        if broken := [name for (name, _), line in self.lines.items() if line.lost_though_certified]:
            return f"certified, and lost rows: {', '.join(broken)}"
        if seconds >= LONG and self.tame:
            return "the naive SQL lost nothing: the writers were too tame to show anything"
        return None

    @property
    def tame(self) -> bool:
        return not any(line.lost for (_, whose), line in self.lines.items() if whose == "naive")

    def __str__(self) -> str:
        heads = "strategy", "", "trials", "rows written", "missing", "stale", "ghosts", "certified"
        found = ["{:14} {:6} {:>7} {:>13} {:>9} {:>7} {:>7}  {}".format(*heads)]
        for (name, whose), line in sorted(self.lines.items(), key=lambda item: (item[0][0], item[0][1] == "naive")):
            counts = [f"{line.counts[kind]:,}" for kind in ("missing", "stale", "ghosts")]
            certified = f"{line.certified} of {line.trials}" if whose == "ours" else ""
            cells = name, whose, line.trials, f"{line.rows:,}", *counts, certified
            found.append("{:14} {:6} {:>7} {:>13} {:>9} {:>7} {:>7}  {}".format(*cells).rstrip())
        return "\n".join(found)


def soak(seconds: float, seed: int) -> str | None:
    """Run trials with the seeds ``seed``, ``seed + 1``, ...; return why they failed, or None. Prints the state as it
    proceeds."""
    tally, deadline = Tally(), time.monotonic() + seconds

    def hard_enough(so_far: Trial) -> bool:
        return seconds < LONG or any(outcome.lost for outcome in so_far.naive.values())

    with tempfile.TemporaryDirectory() as folder, throwaway_stack() as stack:
        server = stack.superuser_dsn()
        os.environ.update(stack.environment())
        while True:
            ids = list(IDS)[seed % len(IDS)]
            with fresh_database(server) as dsn, fresh_database(server) as other_dsn:
                world = World(dsn, f"s3://{BUCKET}/soak-{seed}", Path(folder) / f"{seed}.duckdb")
                done = trial(
                    world, other_dsn, ids=ids, seed=seed, seconds=min(TRIAL_SECONDS, seconds), enough=hard_enough
                )
            tally.add(done)
            print(done, flush=True)
            if done.unused:
                print(f"  never by their own method, for want of time: {', '.join(done.unused)}", flush=True)
            for name in done.lost():
                print(f"  {name} lost, seed {seed}:", *done.ours[name].examples, sep="\n    ", flush=True)
            if time.monotonic() > deadline:
                break
            seed += 1
            if seed % (4 * len(IDS)) == 0:
                print(tally, flush=True)
    print(tally)
    print("missing and stale count against a strategy as far as it claims inserts and updates, ghosts if deletes")
    if seconds < LONG and tally.tame:
        print("the naive SQL lost nothing: too short to show anything")
    return tally.verdict(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Random concurrent writers against every strategy.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    failure = soak(arguments.seconds, arguments.seed)
    sys.exit(f"FAILED: {failure}" if failure else 0)


if __name__ == "__main__":
    logging.getLogger("aurora_sync").setLevel(logging.ERROR)  # each run repeats its warnings of a fallback
    main()

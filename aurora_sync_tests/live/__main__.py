"""``python -m aurora_sync_tests.live``: run the live suite on the account of the environment, or with ``--fake`` here.

Prints the report, and writes it as HTML. Ends with 1 if an answer is no.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from aurora_sync.config.settings import Settings
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync_tests.fixtures.local_stack import throwaway_stack
from aurora_sync_tests.live import redaction, suite
from aurora_sync_tests.live.cases import CASES, Answer
from aurora_sync_tests.live.fakes import fake_grounds
from aurora_sync_tests.live.ground import Ground, opened


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aurora_sync_tests.live", description=__doc__)
    parser.add_argument("--fake", action="store_true", help="run on local servers and fakes, without an account")
    parser.add_argument("--html", type=Path, default=Path("live-report.html"), help="file for the report as HTML")
    parser.add_argument("--rows", type=int, help="rows of the large tables (1000000; with --fake 20000)")
    parser.add_argument("--only", nargs="+", default=(), choices=[case.name for case in CASES], metavar="CASE")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the schemas are removed
    with ExitStack() as stack:
        if options.fake:
            servers = stack.enter_context(throwaway_stack())
            grounds, environment = stack.enter_context(fake_grounds(servers, rows=options.rows or 20_000))
        else:
            environment = _environment(os.environ, stack)
            os.environ.update(environment)  # for the process that is killed
            places = Places.from_settings(Settings.from_environment(environment))
            grounds = {Ground.SNOWFLAKE: partial(opened, Ground.SNOWFLAKE, places, rows=options.rows or 1_000_000)}
        report = suite.run(grounds, redaction.of_environment(environment), only=options.only)
    print(report.text())
    options.html.write_text(report.html(), encoding="utf-8")
    print(f"{options.html} has the same report", file=sys.stderr)
    return 1 if report.count(Answer.NO) else 0


def _environment(given: Mapping[str, str], stack: ExitStack) -> dict[str, str]:
    """Return the settings. Without AURORA_DSN, a local PostgreSQL is the source."""
    environment = {**given, "AURORA_SYNC_WAREHOUSE": "snowflake"}
    if not given.get("AURORA_SYNC_STAGE", "").startswith("s3://"):
        raise ConfigError(
            "AURORA_SYNC_STAGE is not set to a prefix of an S3 bucket",
            hint="set it to the URL of the stage SNOWFLAKE_STAGE, such as s3://bucket/prefix",
        )
    if not environment.get("AURORA_DSN"):
        environment["AURORA_DSN"] = stack.enter_context(throwaway_stack()).superuser_dsn()
    return environment


if __name__ == "__main__":
    logging.getLogger("aurora_sync").setLevel(logging.ERROR)  # the warnings of single runs
    try:
        sys.exit(main())
    except AuroraSyncError as error:
        sys.exit(f"{error}")

"""A process that merges for some minutes, until it is killed: ``python -m … TABLE NAME``."""

from __future__ import annotations

import os
import sys

from aurora_sync.config.settings import Settings
from aurora_sync.warehouse.connect import warehouse_from
from aurora_sync_tests.live.ground import tag

# Snowflake ends the statement of a lost session within five minutes.
RUNNING_SECONDS = 420


def main() -> None:
    table, name = sys.argv[1:]
    with warehouse_from(Settings.from_environment(os.environ)).session(query_tag=tag(name, "killed")) as session:
        session.merge(
            f'MERGE INTO {table} AS t USING (SELECT COUNT(*) AS "K"'
            f" FROM TABLE(GENERATOR(TIMELIMIT => {RUNNING_SECONDS})))"
            ' AS s ON t."K" = s."K" WHEN NOT MATCHED THEN INSERT ("K") VALUES (s."K")'
        )


if __name__ == "__main__":
    main()

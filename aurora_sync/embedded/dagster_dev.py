"""Run ``dagster dev`` without two warnings that do not help a user of ``aurora-sync ui``.

They say that ``dg dev`` is to be preferred, which needs a project of its own kind; and that the dagster.yaml of this
folder is not used, although DAGSTER_HOME has a copy of it.
"""

from __future__ import annotations

import logging
import runpy
import warnings


def _helps(record: logging.LogRecord) -> bool:
    return "instance configuration value" not in record.getMessage()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Function `dev_command` is superseded")
    logging.getLogger("dagster").addFilter(_helps)
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)

"""Use the settings of the local stack if the environment has none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aurora_sync.config.extras import extra


@contextmanager
def local_settings(directory: Path) -> Iterator[None]:
    """Start the stack in ``directory`` and put its settings into the environment. Stop the stack at the end.

    Do nothing if the environment has AURORA_DSN, or if ``directory`` holds no stack.
    """
    if os.environ.get("AURORA_DSN") or not (directory / "state.json").exists():
        yield
        return
    with extra("embedded"):  # deployments do not install the extra
        from aurora_sync.embedded.stack import Stack

    with Stack(directory) as stack:
        os.environ.update(stack.environment())  # boto3 reads AWS_* from the environment
        yield

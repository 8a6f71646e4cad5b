"""Settings for people who set none: those of the local stack, while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aurora_sync.config.extras import extra


@contextmanager
def local_settings(directory: Path) -> Iterator[None]:
    """Without AURORA_DSN in the environment, and with a stack in ``directory``: start it, and put its settings into
    the environment. Else nothing. Servers that this started are stopped at the end."""
    if os.environ.get("AURORA_DSN") or not (directory / "state.json").exists():
        yield
        return
    with extra("embedded"):  # a deployment does without it
        from aurora_sync.embedded.stack import Stack

    with Stack(directory) as stack:
        os.environ.update(stack.environment())  # boto3 reads AWS_* there itself
        yield

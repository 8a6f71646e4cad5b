"""Write a file that others read."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, text: str, option: str) -> None:
    """Write the file so that a reader sees the former content or all of the new one. Raises ConfigError that names the
    ``option``."""
    from aurora_sync.errors import ConfigError

    # The collector of node_exporter reads every file of its folder whose name ends in .prom.
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}", where=option) from error

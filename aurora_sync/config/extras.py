"""Packages that only an extra of pyproject.toml installs, and that are imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aurora_sync.errors import ConfigError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what needs the extra ``name`` in this block. Raises ConfigError with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package {error.name} is not installed, it belongs to the extra {name!r}",
            hint=f"pip install 'aurora-sync[{name}]'",
        ) from error

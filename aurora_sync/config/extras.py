"""Import of packages that only an extra of pyproject.toml installs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aurora_sync.errors import ConfigError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Return a context for imports that need the extra ``name``. Raises ConfigError, with the command that installs the
    extra, when a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package {error.name} of the extra {name!r} is not installed",
            hint=f"pip install 'aurora-sync[{name}]'",
        ) from error

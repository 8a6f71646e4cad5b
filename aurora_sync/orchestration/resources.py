"""The Dagster resource that reads the places of source, stage and warehouse from the environment when needed."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from pathlib import Path

import dagster as dg

from aurora_sync.config.settings import Settings
from aurora_sync.embedded.environment import local_settings
from aurora_sync.engine.places import Places

_embedded = ExitStack()  # leaves the embedded stack when this process ends
atexit.register(_embedded.close)


class Connections(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Reads the settings from the environment. Without AURORA_DSN, starts the embedded stack if it exists.

    No setting is a field of this resource, so that the UI shows none of them. Its constructor does no I/O.
    """

    embedded_directory: str = ".aurora_sync"

    def settings(self) -> Settings:
        """Return the settings; start the embedded stack if necessary. Raises ConfigError that names what is missing."""
        if "AURORA_DSN" not in os.environ:
            _embedded.enter_context(local_settings(Path(self.embedded_directory)))
        return Settings.from_environment(os.environ)

    def places(self) -> Places:
        return Places.from_settings(self.settings())

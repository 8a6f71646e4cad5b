"""The Dagster resource that has the places of source, stage and warehouse, by default those of the environment."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from aurora_sync.config.settings import Settings
from aurora_sync.embedded.environment import local_settings
from aurora_sync.engine.places import Places
from aurora_sync.orchestration.connection_values import ConnectionValues

_embedded = ExitStack()  # leaves the embedded stack when this process ends
atexit.register(_embedded.close)


class Connections(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Reads the settings from the environment. Without AURORA_DSN, starts the embedded stack if it exists.

    :meth:`of` gives settings as values instead. No setting is a field of this resource, so that the UI shows none of
    them. Its constructor does no I/O.
    """

    embedded_directory: str = Field(
        default=".aurora_sync", description="Folder of the embedded stack, which is started if AURORA_DSN is not set."
    )

    _values: ConnectionValues = PrivateAttr(default_factory=ConnectionValues)
    _shared: tuple[tuple[Settings, dict[str, str]], Places] | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, *, source: Any = None, stage: Any = None, warehouse: Any = None) -> Connections:
        """Return connections to what the arguments name; what is not given is read from the environment.

        Each argument is a string or a mapping with the keys of the component (docs/dagster.md), such as
        ``source={"dsn": dg.EnvVar("CRM_DSN"), "name": "crm"}``, ``stage="s3://bucket/prefix"`` and
        ``warehouse={"resource": SnowflakeResource(...), "stage": "APP.LANDING.FILES"}``. Raises ConfigError.
        """
        connections = cls()
        connections._values = ConnectionValues.of(source=source, stage=stage, warehouse=warehouse)
        return connections

    @property
    def source_name(self) -> str | None:
        """The given name of the source; None if its database is its name."""
        return self._values.source_name

    def settings(self) -> Settings:
        """Return the settings; start the embedded stack if necessary. Raises ConfigError that names what is missing."""
        if self._values.source is None and "AURORA_DSN" not in os.environ:
            _embedded.enter_context(local_settings(Path(self.embedded_directory)))
        return self._values.settings(os.environ)

    def places(self) -> Places:
        """Return the places of the settings.

        The steps of a process share one object, and so its client of S3, until the settings or variables AWS_* change.
        """
        settings = self.settings()
        read = settings, {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        if self._shared is None or self._shared[0] != read:
            self._shared = read, self._values.places(settings)
        return self._shared[1]

    def close(self) -> None:
        """Close the connection to the warehouse that the steps of this process share, if there is one."""
        if self._shared is not None:
            self._shared[1].warehouse.close()

    def for_definitions(self) -> Connections | dg.ResourceDefinition:
        """Return what ``resources=`` gets. Dagster would make a copy of this object, without the values."""
        if self._values == ConnectionValues():
            return self
        return dg.ResourceDefinition.hardcoded_resource(self, "Connections that were given as values.")

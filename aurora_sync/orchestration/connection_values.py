"""Connections as values: source, stage and warehouse that a component or a caller names, instead of the environment.

The values have the rules and the error messages of the environment variables. A section that is given replaces all
variables of its part; a section that is not given is read from the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from aurora_sync.config.backends.snowflake import SNOWFLAKE
from aurora_sync.config.settings import VARIABLES, Settings
from aurora_sync.engine.places import Places
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.existing_resources import s3_store, snowflake_settings
from aurora_sync.stage.writer import Stage

# A string, an EnvVar, or None for a variable that is not set. Pydantic would make a plain string of an EnvVar.
Value = Annotated[Any, WithJsonSchema({"type": "string"})]
Resource = Annotated[Any, WithJsonSchema({"type": "string"})]  # in YAML a template such as "{{ snowflake }}"

_PURPOSES = {variable.name: variable.purpose for variable in VARIABLES}
_OF_SOURCE = {
    "dsn": "AURORA_DSN",
    "kafka_bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS",
    "kafka_properties": "KAFKA_PROPERTIES",
}
_OF_STAGE = {"url": "AURORA_SYNC_STAGE"}
_OF_SNOWFLAKE = {variable.name.removeprefix("SNOWFLAKE_").lower(): variable.name for variable in SNOWFLAKE.variables}
_OF_WAREHOUSE = {"log_schema": "AURORA_SYNC_SCHEMA", **_OF_SNOWFLAKE}
# Where SnowflakeResource has no field of the same meaning.
_BESIDE_RESOURCE = {"resource", "stage", "dms_stage", "log_schema"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _fields(variables: Mapping[str, str]) -> dict[str, Any]:
    return {key: (Value, Field(None, description=_PURPOSES[name])) for key, name in variables.items()}


SourceValues = create_model(
    "SourceValues",
    __base__=_Section,
    __doc__="The source. A string is its dsn.",
    name=(
        Value,
        Field(
            None,
            description="Name of the source in asset keys, pools and descriptions; default: the name of the component. "
            "Components that read one source have the same name.",
        ),
    ),
    **_fields(_OF_SOURCE),
)
StageValues = create_model(
    "StageValues",
    __base__=_Section,
    __doc__="Where files are staged. A string is its url.",
    **_fields(_OF_STAGE),
    resource=(
        Resource,
        Field(None, description="An S3Resource of dagster-aws, for region, endpoint and credentials; default: AWS_*."),
    ),
)
WarehouseValues = create_model(
    "WarehouseValues",
    __base__=_Section,
    __doc__="The target. A string is `duckdb:PATH`. Without duckdb, the keys are those of a Snowflake account.",
    duckdb=(Value, Field(None, description="Path of a DuckDB file.")),
    resource=(
        Resource,
        Field(None, description="A SnowflakeResource of dagster-snowflake, for account, login, role and database."),
    ),
    **_fields(_OF_WAREHOUSE),
)


@dataclass(frozen=True)
class ConnectionValues:
    """The sections that are given. Values may be strings, EnvVars, and resources of dagster-aws and dagster-snowflake.

    Creating it checks the keys only: an EnvVar is read for each run.
    """

    source: Mapping[str, Any] | None = None
    stage: Mapping[str, Any] | None = None
    warehouse: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, *, source: Any = None, stage: Any = None, warehouse: Any = None) -> ConnectionValues:
        """Return the values of sections that are mappings or strings. Raises ConfigError for unknown keys."""
        return cls(
            _section("source", source, "dsn", SourceValues),
            _section("stage", stage, "url", StageValues),
            _section("warehouse", _duckdb(warehouse), "duckdb", WarehouseValues),
        )

    @property
    def source_name(self) -> str | None:
        """The given name of the source."""
        return _text((self.source or {}).get("name")) or None

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """Return the settings; sections that are not given are read from ``environ``. Raises ConfigError."""
        variables, keys = dict(environ), dict[str, str]()
        for section, given, names in (
            ("source", self.source, _OF_SOURCE),
            ("stage", self.stage, _OF_STAGE),
            ("warehouse", self.warehouse, _OF_WAREHOUSE),
        ):
            if given is not None:
                variables |= {name: _text(given.get(key)) for key, name in names.items()}
                keys |= {name: f"{section}.{key}" for key, name in names.items()}
        resource = None
        if self.warehouse is not None:
            resource = self.warehouse.get("resource")
            path = _text(self.warehouse.get("duckdb"))
            keys["AURORA_SYNC_WAREHOUSE"] = "warehouse"
            # With a resource, these settings are replaced below.
            variables["AURORA_SYNC_WAREHOUSE"] = f"duckdb:{path or 'none'}" if path or resource else "snowflake"
        try:
            settings = Settings.from_environment(variables)
        except ConfigError as error:
            raise ConfigError([_with_keys(problem, keys) for problem in error.problems]) from error
        return replace(settings, warehouse=self._of_resource(resource)) if resource else settings

    def _of_resource(self, resource: Any) -> Any:
        given = self.warehouse or {}
        if others := sorted(key for key in given.keys() - _BESIDE_RESOURCE if given[key] is not None):
            raise ConfigError(f"warehouse: found resource and {', '.join(others)}; expected the account in one of both")
        stage = _text(given.get("stage"))
        if not stage:
            raise ConfigError(f"warehouse.stage is not set; it is {_PURPOSES['SNOWFLAKE_STAGE']}")
        return snowflake_settings(resource, stage=stage, dms_stage=_text(given.get("dms_stage")) or None)

    def places(self, settings: Settings) -> Places:
        """Return the places of ``settings``, which :meth:`settings` returned."""
        places = Places.from_settings(settings)
        if self.stage is None or self.stage.get("resource") is None:
            return places
        store = s3_store(self.stage["resource"], settings.stage)
        return replace(places, stage=Stage(store, target=places.warehouse.describe()))


def _duckdb(warehouse: Any) -> Any:
    """Return the path of a text ``duckdb:PATH``; anything else as it is."""
    if not isinstance(warehouse, str) or isinstance(warehouse, dg.EnvVar):
        return warehouse
    if not warehouse.startswith("duckdb:"):
        raise ConfigError("warehouse: found a string without duckdb: at its start; expected duckdb:PATH, or a mapping")
    return warehouse.removeprefix("duckdb:")


def _section(name: str, given: Any, main: str, model: type[BaseModel]) -> Mapping[str, Any] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return {main: given}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name}: found a {type(given).__name__}; expected a string or a mapping")
    if unknown := sorted(given.keys() - model.model_fields.keys()):
        raise ConfigError(f"{name}: found {', '.join(unknown)}; expected keys of {', '.join(model.model_fields)}")
    return dict(given)


def _text(value: Any) -> str:
    """Return the text of a value, which is empty for a variable that is not set."""
    if isinstance(value, dg.EnvVar):  # a str that is the name of the variable
        return value.get_value() or ""
    return "" if value is None else str(value)


def _with_keys(problem: str, keys: Mapping[str, str]) -> str:
    """Replace the names of environment variables in an error message by the keys that were given."""
    return re.sub(r"\b[A-Z]+_[A-Z0-9_]+\b", lambda found: keys.get(found[0], found[0]), problem)

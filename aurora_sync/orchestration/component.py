"""A Dagster component for other projects. Its configuration has the keys of tables.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PrivateAttr
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from aurora_sync.config.advisor import Advisor
from aurora_sync.config.loader import SyncConfig, from_mapping
from aurora_sync.config.tables import TableConfig, TableOptions
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.connection_values import SourceValues, StageValues, WarehouseValues
from aurora_sync.orchestration.factory import Beside, build_definitions, table_assets
from aurora_sync.orchestration.project import DefaultStatus, Executors
from aurora_sync.orchestration.resources import Connections
from aurora_sync.orchestration.translation import template_scope


class ScaffoldParameters(BaseModel):
    table: str = Field("public.customers", description="Table of the source as schema.name, or a glob.")
    strategy: WatermarkType = Field(WatermarkType.xmin, description="How changed rows are found.")
    watermark_col: str | None = Field(None, description="Watermark column, for timestamp and integer.")


class AuroraSyncScaffolder(dg.Scaffolder[ScaffoldParameters]):
    """``dg scaffold defs aurora_sync.AuroraSync crm --table public.customers --strategy xmin``"""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParameters]:
        return ScaffoldParameters

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParameters]) -> None:
        chosen = request.params
        table = {"table_name": chosen.table, "watermark_type": chosen.strategy.value}
        if chosen.watermark_col is not None:
            table["watermark_col"] = chosen.watermark_col
        dg.scaffold_component(request, {"tables": [table]})


@dataclass(frozen=True)
class _SchemaOf:
    """Annotation that gives a mapping the JSON Schema of a model, for editors and ``dg check yaml``.

    Validation accepts any mapping. After Dagster has resolved its templates, the loader of tables.yaml reports all
    errors at once.
    """

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.dict_schema()

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self.model.__pydantic_core_schema__)


Options = Annotated[dict[str, Any], _SchemaOf(TableOptions)]
Limits = Annotated[dict[str, Any], _SchemaOf(Advisor)]
Source = str | Annotated[dict[str, Any], _SchemaOf(SourceValues)] | None
Stage = str | Annotated[dict[str, Any], _SchemaOf(StageValues)] | None
Warehouse = str | Annotated[dict[str, Any], _SchemaOf(WarehouseValues)] | None
Table = Annotated[dict[str, Any], _SchemaOf(TableConfig)]


def _resolved(context: dg.ResolutionContext, value: Any) -> Any:
    return context.resolve_value(value)


def _executor(given: Any) -> dg.ExecutorDefinition | Executors | None:
    if given is None or isinstance(given, dg.ExecutorDefinition | Executors):
        return given
    if given == "in_process":
        return dg.in_process_executor
    raise ConfigError(f"executor: found {given!r}; expected in_process, or a template that is an ExecutorDefinition")


@dg.scaffold_with(AuroraSyncScaffolder)
class AuroraSync(dg.Component, dg.Model, dg.Resolvable):
    """Syncs tables of PostgreSQL incrementally through S3 into Snowflake. The keys are those of tables.yaml.

    ``source``, ``stage`` and ``warehouse`` that are not given come from the environment (AURORA_DSN, AURORA_SYNC_STAGE,
    SNOWFLAKE_*, AWS_*).
    """

    _folder: Path | None = PrivateAttr(default=None)

    defaults: Annotated[Options, dg.Resolver(_resolved, model_field_type=Options)] = Field(default_factory=dict)
    tables: Annotated[list[Table], dg.Resolver(_resolved, model_field_type=list[Table])]

    advisor: Annotated[Limits, dg.Resolver(_resolved, model_field_type=Limits)] = Field(default_factory=dict)

    source: Annotated[Any, dg.Resolver(_resolved, model_field_type=Source)] = Field(
        None, description="The source: its dsn, or a mapping with name and dsn; default: AURORA_DSN."
    )
    stage: Annotated[Any, dg.Resolver(_resolved, model_field_type=Stage)] = Field(
        None, description="Where files are staged: s3://bucket/prefix, or a mapping; default: AURORA_SYNC_STAGE."
    )
    warehouse: Annotated[Any, dg.Resolver(_resolved, model_field_type=Warehouse)] = Field(
        None,
        description="The target: a mapping with the account and login of Snowflake, or duckdb:PATH; default: "
        "AURORA_SYNC_WAREHOUSE and SNOWFLAKE_*.",
    )
    default_status: DefaultStatus = Field(
        "STOPPED",
        description="Status of schedules and change sensor until someone turns them on or off in the UI: RUNNING or "
        "STOPPED.",
    )

    executor: Annotated[Any, dg.Resolver(_resolved, model_field_type=str | None)] = Field(
        None,
        description="Executor of the jobs of schedules, change sensor and people: in_process, or a template that is an "
        "ExecutorDefinition; default: one process for each table, started fast. Runs without a job, such as those of "
        "Materialize, have the executor of the code location.",
    )
    translation: (
        Annotated[
            TranslationFn[TableConfig],
            TranslationFnResolver[TableConfig](template_vars_for_translation_fn=template_scope),
        ]
        | None
    ) = Field(
        None,
        description="Attributes of the assets of all tables: key, key_prefix, group_name, owners, tags, description, "
        "kinds, metadata, automation_condition and others. Templates may use `table`, the row of tables.yaml with all "
        "defaults, and `spec`, the spec without the translation, as in `key: lake/{{ table.table_name }}`.",
    )

    def get_asset_spec(self, spec: dg.AssetSpec, table: TableConfig) -> dg.AssetSpec:
        """Return the spec of a table's asset; ``spec`` is the default. Override this method to translate in Python.

        Checks, jobs, schedules, the change sensor and the verification follow the returned key and group. A table whose
        spec has an automation condition is not watched by the change sensor.
        """
        return self.translation(spec, table) if self.translation else spec

    def connections(self, name: str) -> Connections:
        """Return the connections. ``name`` is the name of a source that is given without a name."""
        source = {"dsn": self.source} if isinstance(self.source, str) else self.source
        if isinstance(source, dict):
            source = source | {"name": source.get("name") or name}
        return Connections.of(source=source, stage=self.stage, warehouse=self.warehouse)

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        loaded = super().load(attributes, context)
        loaded._folder = context.path
        return loaded

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the definitions. Defaults, globs and checks work as in tables.yaml. The prefix is the folder's name."""
        self._folder = context.path
        return build_definitions(
            self._config(context.path),
            self.connections(context.path.name),
            name=context.path.name,
            default_status=self.default_status,
            get_asset_spec=self.get_asset_spec,
            executor=_executor(self.executor),
            beside=self._beside(context),
        )

    def _config(self, folder: Path) -> SyncConfig:
        mapping = {"defaults": self.defaults, "tables": self.tables, "advisor": self.advisor}
        return from_mapping(mapping, folder / "defs.yaml")

    def _table_assets(self, folder: Path) -> list[TableAsset]:
        return table_assets(self._config(folder), self.connections(folder.name), folder.name, self.get_asset_spec)

    def _beside(self, context: dg.ComponentLoadContext) -> Beside:
        """Return the tables of the project's other components that this one assesses and collects the garbage of.

        Of the components with one source, and of those with one stage and warehouse, the first by its folder does so.
        """
        found = context.component_tree.get_all_components(AuroraSync)
        others = {each._folder: each for each in found if each._folder not in (None, context.path)}

        def of(identity: Callable[[AuroraSync], Any]) -> list[TableAsset] | None:
            same = {folder: each for folder, each in others.items() if folder and identity(each) == identity(self)}
            if any(folder < context.path for folder in same):
                return None
            return [asset for folder, each in sorted(same.items()) for asset in each._table_assets(folder)]

        collected = of(lambda each: (each.stage, each.warehouse))
        return Beside(
            assessed=of(lambda each: each._source_identity),
            collected=None if collected is None else [asset.table for asset in collected],
        )

    @property
    def _source_identity(self) -> Any:
        """The given name of the source, else its dsn; None for that of the environment."""
        if isinstance(self.source, dict):
            return self.source.get("name") or self.source.get("dsn")
        return self.source

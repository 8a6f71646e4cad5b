"""Source, stage and warehouse as values of the component and of build_definitions."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from dagster_aws.s3 import S3Resource

from aurora_sync.config.backends.duckdb import DuckDBSettings
from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.config.loader import from_mapping
from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.compat import last_materialization
from aurora_sync.orchestration.component import AuroraSync
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.resources import Connections
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.orchestration.conftest import run
from aurora_sync_tests.orchestration.test_component import keys, load

with warnings.catch_warnings():
    # The package declares a field in a way that pydantic deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from dagster_snowflake import SnowflakeResource

pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),  # a call of pydantic inside Dagster
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # Dagster warns about its own beta interfaces
]
SOURCE = {"dsn": "postgresql://someone:geheim@127.0.0.1:1/app"}
SNOWFLAKE = {
    "account": "o-a",
    "user": "u",
    "private_key_path": "key.p8",
    "warehouse": "w",
    "database": "d",
    "stage": "a.b.c",
}


def table(name: str, **options: Any) -> dict[str, Any]:
    return {"table_name": name, "watermark_type": "xmin", **options}


def pools(definitions: dg.Definitions) -> set[str]:
    return {pool for node in definitions.resolve_asset_graph().asset_nodes for pool in node.pools or ()}


def merged(components: dict[str, dict[str, Any]]) -> dg.Definitions:
    return dg.Definitions.merge(*(load(attributes, folder=folder) for folder, attributes in components.items()))


def customers(url: str, rows: int) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE customers AS SELECT generate_series(1, {rows}) AS id")
        cursor.execute("ALTER TABLE customers ADD PRIMARY KEY (id)")


@pytest.fixture
def other(stack: Stack) -> Iterator[str]:
    with fresh_database(stack.superuser_dsn()) as url:
        yield url


@pytest.mark.usefixtures("store_environment")
def test_two_components_sync_two_databases_into_two_targets(
    dsn: str,
    other: str,
    stage_url: str,
    tmp_path: Path,
    no_settings: None,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    customers(dsn, 1)
    customers(other, 2)
    monkeypatch.setenv("CRM_DSN", dsn)
    crm = {
        "source": {"dsn": "{{ env.CRM_DSN }}"},
        "stage": f"{stage_url}/crm",
        "warehouse": f"duckdb:{tmp_path}/one.duckdb",
        "tables": [table("customers", target_schema="CRM")],
    }
    billing = {
        "source": {"dsn": other, "name": "erp"},
        "stage": {"url": f"{stage_url}/billing"},
        "warehouse": {"duckdb": f"{tmp_path}/two.duckdb", "log_schema": "LOG"},
        "tables": [table("customers", target_schema="ERP")],
    }
    definitions = merged({"crm": crm, "billing": billing})
    assert run(definitions, instance).success
    for schema, rows in (("CRM", 1), ("ERP", 2)):
        found = last_materialization(instance, dg.AssetKey([schema, "customers"]))
        assert found is not None
        assert found.metadata["rows_inserted"].value == rows
    assert {path.name for path in tmp_path.glob("*.duckdb")} == {"one.duckdb", "two.duckdb"}


@pytest.mark.usefixtures("no_settings")
def test_two_servers_with_one_name_of_database_share_no_pool_and_no_key() -> None:
    """The source of a component has the component's name, unless it is given another."""
    rest = {"stage": "s3://bucket/x", "warehouse": "duckdb:w"}
    definitions = merged(
        {
            "crm": {"source": SOURCE["dsn"], "tables": [table("customers", target_schema="a")], **rest},
            "billing": {
                "source": SOURCE | {"name": "erp"},
                "tables": [table("customers", target_schema="b")],
                **rest,
            },
        }
    )
    assert pools(definitions) == {"aurora_sync/crm", "aurora_sync/erp"}
    assert {"aurora/crm/public/customers", "aurora/erp/public/customers"} < keys(definitions)
    definitions.get_repository_def().load_all_definitions()


@pytest.mark.usefixtures("no_settings")
def test_names_without_values_are_those_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DSN", SOURCE["dsn"]), ("SYNC_STAGE", "s3://bucket"), ("SYNC_WAREHOUSE", "duckdb:w")):
        monkeypatch.setenv(f"AURORA_{name}", value)
    definitions = load({"tables": [table("customers")]})
    assert pools(definitions) == {"aurora_sync/app"}
    assert "aurora/app/public/customers" in keys(definitions)


def test_a_section_replaces_all_variables_of_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AURORA_DSN", "dbname=other"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker:9092"),
        ("AURORA_SYNC_STAGE", "s3://bucket/environment"),
        ("AURORA_SYNC_WAREHOUSE", "duckdb:other"),
        ("AURORA_SYNC_SCHEMA", "OTHER"),
        ("SNOWFLAKE_PASSWORD", "other"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CRM_DSN", SOURCE["dsn"])
    settings = Connections.of(source={"dsn": dg.EnvVar("CRM_DSN")}, warehouse=SNOWFLAKE | {"port": 443}).settings()
    assert (settings.dsn, settings.brokers, settings.log_schema) == (SOURCE["dsn"], "", "_AURORA_SYNC")
    assert settings.stage == "s3://bucket/environment"
    assert isinstance(settings.warehouse, SnowflakeSettings)
    assert (settings.warehouse.account, settings.warehouse.port) == ("o-a", 443)
    assert settings.warehouse.login == {"private_key_path": "key.p8"}


def test_resources_of_the_project_are_warehouse_and_stage(
    stack: Stack, stage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stack.environment()
    for name in given:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OF_THE_PROJECT", given["AWS_SECRET_ACCESS_KEY"])
    account = SnowflakeResource(
        account="a", user="u", password=dg.EnvVar("OF_THE_PROJECT"), warehouse="w", database="d"
    )
    bucket = S3Resource(
        region_name=given.get("AWS_REGION", "us-east-1"),
        endpoint_url=given["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=dg.EnvVar("OF_THE_PROJECT"),
    )
    connections = Connections.of(
        source=SOURCE,
        stage={"url": stage_url, "resource": bucket},
        warehouse={"resource": account, "stage": "APP.LANDING.FILES", "log_schema": "LOG"},
    )
    settings = connections.settings()
    assert isinstance(settings.warehouse, SnowflakeSettings)
    assert (settings.warehouse.stage, settings.log_schema) == ("APP.LANDING.FILES", "LOG")
    assert settings.warehouse.login == {"password": given["AWS_SECRET_ACCESS_KEY"]}
    store = connections.places().stage.store
    store.put_new(f"{store.prefix}one", b"1")
    assert store.get(f"{store.prefix}one") == b"1"


def test_resources_come_into_yaml_as_templates(no_settings: None, stack: Stack) -> None:
    account = SnowflakeResource(account="a", user="u", password="x", warehouse="w", database="d")
    context = dg.ResolutionContext.default().with_scope(snowflake=account)
    model = AuroraSync.get_model_cls()
    assert model is not None
    written = {"tables": [], "stage": "s3://bucket", "warehouse": {"resource": "{{ snowflake }}", "stage": "a.b.c"}}
    component = AuroraSync.resolve_from_model(context, model(**written | {"source": SOURCE}))
    settings = component.connections("crm").settings()
    assert isinstance(settings.warehouse, SnowflakeSettings)
    assert settings.warehouse.account == "a"


def test_errors_name_the_keys_and_no_secret(subtests: pytest.Subtests) -> None:
    whole = {"source": SOURCE, "stage": "s3://bucket", "warehouse": "duckdb:w"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"source": {"dns": "geheim"}}, "source: found dns; expected keys of name, dsn, kafka_bootstrap_servers"),
        ({"source": {"dsn": None}}, "source.dsn is not set; it is the source: a libpq string"),
        ({"source": "postgresql://u:geheim/x@h/d"}, "source.dsn: found a string that libpq cannot read (not shown"),
        ({"stage": "bucket"}, "stage.url: found 'bucket'; expected s3://bucket/prefix"),
        ({"stage": ["s3://bucket"]}, "stage: found a list; expected a string or a mapping"),
        ({"warehouse": "snowflake"}, "warehouse: found a string without duckdb: at its start; expected duckdb:PATH"),
        ({"warehouse": {"account": "a", "token": "geheim"}}, "warehouse.warehouse is not set; it is the virtual"),
        (
            {"warehouse": SNOWFLAKE | {"password": "geheim"}},
            "warehouse.private_key_path (key pair) and warehouse.password (password) are set, but one login is allowed",
        ),
        ({"warehouse": {"resource": object()}}, "warehouse.stage is not set; it is the external stage"),
        (
            {"warehouse": {"resource": object(), "user": "u"}},
            "warehouse: found resource and user; expected the account",
        ),
    ]
    for given, expected in cases:
        with subtests.test(expected):
            with pytest.raises(ConfigError) as caught:
                Connections.of(**whole | given).settings()
            assert expected in str(caught.value)
            assert "geheim" not in str(caught.value)


@pytest.mark.usefixtures("no_settings")
def test_assets_of_the_project_may_use_the_given_connections(instance: dg.DagsterInstance) -> None:
    connections = Connections.of(source=SOURCE, stage="s3://bucket", warehouse="duckdb:given.duckdb")
    config = from_mapping({"tables": [table("customers")]}, Path("tables.yaml"))

    @dg.asset
    def report(crm: Connections) -> dg.MaterializeResult[None]:
        warehouse = crm.settings().warehouse
        assert isinstance(warehouse, DuckDBSettings)
        return dg.MaterializeResult(metadata={"path": str(warehouse.path)})

    definitions = dg.Definitions.merge(
        build_definitions(config, connections, name="crm"), dg.Definitions(assets=[report])
    )
    assert run(definitions, instance, asset_selection=[report.key]).success
    found = last_materialization(instance, report.key)
    assert found is not None
    assert found.metadata["path"].value == "given.duckdb"


@pytest.mark.usefixtures("no_settings")
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # a read of Dagster's own
def test_user_interface_is_shown_no_secret() -> None:
    key = SNOWFLAKE | {"private_key_passphrase": "geheim"}
    connections = Connections.of(source=SOURCE, stage="s3://bucket", warehouse=key)
    assert connections.settings()
    definitions = build_definitions(from_mapping({"tables": [table("a")]}, Path("x")), connections)
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_shared.serdes import serialize_value

    assert "geheim" not in serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    assert "geheim" not in repr(connections)


def test_steps_of_a_process_share_the_places_until_the_environment_changes(
    no_settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections.of(source="dbname=a", stage="s3://bucket", warehouse="duckdb:a.duckdb")
    places = connections.places()
    assert connections.places() is places
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert connections.places() is not places
    assert connections.places() is connections.places()


def test_places_follow_a_variable_that_changes(no_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections.of(source=dg.EnvVar("CRM_DSN"), stage="s3://bucket", warehouse="duckdb:a.duckdb")
    monkeypatch.setenv("CRM_DSN", "dbname=a")
    assert connections.places().source.dsn == "dbname=a"
    monkeypatch.setenv("CRM_DSN", "dbname=b")
    assert connections.places().source.dsn == "dbname=b"

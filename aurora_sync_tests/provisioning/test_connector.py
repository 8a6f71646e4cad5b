"""The generated connector configuration. scenarios/debezium_events and scenarios/debezium run the connector."""

from __future__ import annotations

import json
import re

import pytest

from aurora_sync.config.connector import PLACEHOLDER, Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError
from aurora_sync.provisioning.connector import ConnectorSource, connector_config, pattern
from aurora_sync.strategies.debezium import topic

SOURCE = ConnectorSource("db.example", "shop")
HOSTILE = ["a b", "a,b", "a.b", "a$b", 'a"b', "${env:X}", "a\\b", "(a|b)*", "ünï", "日本", "A", "x'y", "line\nbreak"]


def table(name: str, schema: str = "public", **connector: object) -> TableConfig:
    return TableConfig(
        table_name=name,
        schema_=schema,
        watermark_type=WatermarkType.debezium,
        topic_prefix="pg",
        connector=Connector.model_validate(connector),
    )


def config(*tables: TableConfig) -> dict[str, str]:
    made = connector_config(tables, SOURCE)
    assert made["name"] == "pg"
    assert isinstance(made["config"], dict)
    return made["config"]


def test_options_preserve_exact_values() -> None:
    made = config(table("orders"))
    assert json.loads(json.dumps(made)) == made
    assert all(isinstance(value, str) for value in made.values())
    expected = {
        "decimal.handling.mode": "string",
        "time.precision.mode": "microseconds",
        "interval.handling.mode": "string",
        "binary.handling.mode": "bytes",
        "skipped.operations": "none",
        "snapshot.mode": "no_data",
        "publication.autocreate.mode": "disabled",
        "event.converting.failure.handling.mode": "fail",
        "unavailable.value.placeholder": PLACEHOLDER,
        "header.converter.schemas.enable": "false",
        "topic.creation.default.partitions": "1",
    }
    assert {name: made[name] for name in expected} == expected


def test_the_options_of_tables_yaml_are_the_connectors() -> None:
    """They keep Debezium's names, so that the options of an existing connector can be copied."""
    made = config(table("orders", **{"decimal.handling.mode": "precise", "role": "cdc"}))
    assert (made["decimal.handling.mode"], made["database.user"]) == ("precise", "cdc")


def test_the_configuration_holds_no_password() -> None:
    assert config(table("orders"))["database.password"] == "${env:DEBEZIUM_PASSWORD}"
    with pytest.raises(ConfigError, match="must be a reference") as raised:
        ConnectorSource("h", "d", password="hunter2")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_matched_alone(name: str) -> None:
    found = pattern(table(name, 'my "schema"'))
    assert not set(found) & set(",$ \n")
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: re.escape(chr(int(m[1], 16))), found)
    assert re.fullmatch(python, f'my "schema".{name}')
    assert [other for other in HOSTILE if re.fullmatch(python, f'my "schema".{other}')] == [name]


def test_several_tables_are_a_list() -> None:
    assert config(table("a"), table("b", "s"))["table.include.list"] == r"public\.a,s\.b"


def test_two_tables_never_share_a_topic() -> None:
    assert topic(table("a b")) == "pg.public.a_b"
    with pytest.raises(ConfigError, match=r"public\.a b and public\.a_b would share the topic pg\.public\.a_b"):
        config(table("a b"), table("a_b"), table("c"))

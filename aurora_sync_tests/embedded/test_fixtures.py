"""The shared fixtures give every test a source, a stage and a warehouse of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

import boto3
import psycopg2
import pytest


@pytest.mark.parametrize("turn", range(2))
def test_every_test_has_an_empty_database_with_logical_wal(dsn: str, turn: int) -> None:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT current_setting('wal_level'), current_setting('max_prepared_transactions')")
        assert cursor.fetchone() == ("logical", "20")
        cursor.execute("CREATE TABLE left_behind ()")
        connection.commit()
        cursor.execute("INSERT INTO left_behind DEFAULT VALUES")
        cursor.execute("PREPARE TRANSACTION 'left behind'")


def test_stage_is_reached_through_the_environment_alone(store_environment: dict[str, str]) -> None:
    bucket, prefix = store_environment["AURORA_SYNC_STAGE"].removeprefix("s3://").split("/")
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key=f"{prefix}/object", Body=b"text", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key=f"{prefix}/object", Body=b"text", IfNoneMatch="*")
    assert client.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 1


def test_warehouse_file_does_not_exist_yet(warehouse_path: Path) -> None:
    assert warehouse_path.parent.is_dir()
    assert not warehouse_path.exists()

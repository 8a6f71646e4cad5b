import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import dagster as dg
import psycopg2
import pytest
import sqlalchemy
from dagster._core.instance import InstanceRef

from aurora_sync.embedded.stack import BUCKET, Stack
from aurora_sync.model.receipt import Receipt
from aurora_sync_tests.orchestration.conftest import Build, run
from aurora_sync_tests.orchestration.receipts import receipt

REPOSITORY = Path(__file__).parents[2]


@dg.asset
def talkative() -> None:
    print("said by the asset")


@pytest.fixture
def production(
    tmp_path: Path, dsn: str, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """Return an instance from deploy/dagster.yaml, on the PostgreSQL and S3 servers of the tests."""
    shutil.copy(REPOSITORY / "deploy" / "dagster.yaml", tmp_path)
    address = urlsplit(dsn)
    for name, value in {
        "HOST": address.hostname,
        "PORT": address.port,
        "USER": address.username,
        "PASSWORD": address.password,
        "DB": address.path.lstrip("/"),
    }.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", str(value))
    monkeypatch.setenv("DAGSTER_LOGS_BUCKET", BUCKET)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
        yield instance


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.MovedIn20Warning", "ignore::ResourceWarning")
def test_production_instance_keeps_events_in_postgresql_and_logs_in_s3(
    production: dg.DagsterInstance, dsn: str, stack: Stack
) -> None:
    result = run(dg.Definitions(assets=[talkative]), production)
    assert result.success
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT asset_key FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'")
        assert cursor.fetchall() == [('["talkative"]',)]
    objects = boto3.client("s3")
    found = objects.list_objects_v2(Bucket=BUCKET, Prefix=f"dagster/storage/{result.run_id}/")
    texts = [objects.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in found["Contents"]]
    assert b"said by the asset\n" in texts
    assert production.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 60
    assert production.get_concurrency_config().pool_config.default_pool_limit == 4


def test_embedded_instance_keeps_everything_below_one_folder(tmp_path: Path) -> None:
    """DAGSTER_HOME is a folder with dagster.yaml, as in `aurora-sync ui`."""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    program = (
        "import dagster as dg\n"
        "@dg.asset\n"
        "def one(): return dg.MaterializeResult()\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    assert dg.materialize([one], instance=instance).success\n"
        "    assert not instance.telemetry_enabled and not instance.nux_enabled\n"
    )
    environment = {"PATH": "", "DAGSTER_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".aurora_sync", "dagster.yaml"]
    assert [path.name for path in (tmp_path / ".aurora_sync").iterdir()] == ["dagster"]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.MovedIn20Warning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("no_settings")
def test_steps_keep_their_connections_to_the_storage(
    production: dg.DagsterInstance, receipts: list[Receipt], build: Build, request: pytest.FixtureRequest
) -> None:
    opened: list[object] = []

    def count(connection: object, _: object) -> None:
        opened.append(connection)

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", count)
    request.addfinalizer(lambda: sqlalchemy.event.remove(sqlalchemy.Engine, "connect", count))
    names = [f"t{number}" for number in range(5)]
    definitions = build("tables:\n" + "".join(f"  - {{table_name: {name}, watermark_type: xmin}}\n" for name in names))

    def connections(*tables: str) -> int:
        before = len(opened)
        receipts.extend(receipt(table=f"public.{table}") for table in tables)
        assert run(
            definitions, production, asset_selection=[dg.AssetKey(["public", table]) for table in tables]
        ).success
        return len(opened) - before

    connections("t0")
    # Without that, each table opens about 50. Some may be replaced because of their age.
    assert connections("t1", "t2", "t3", "t4") < 50

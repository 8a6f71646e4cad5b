"""An exporter whose objects are not made by the stage, as those of a server that writes to S3 by itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.engine import gc
from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.export import Destination, Exported
from aurora_sync.model.manifest import StagedFile
from aurora_sync.model.relation import SourceTable
from aurora_sync.objects.store import Store
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.exporter import Exporter
from aurora_sync_tests.scenarios.world import World, config


@dataclass
class OwnObjects(Exporter):
    """Leaves rows as one object that is not compressed, and does not hand them over."""

    fails: bool = False

    def export(
        self,
        connection: Connection,
        table: SourceTable,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        rows = io.BytesIO()
        with connection.cursor() as cursor:
            cursor.copy_expert(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(statement), rows)
            number = cursor.rowcount
        body = rows.getvalue()
        store = Store.from_url(destination.uri)
        if number:
            store.put_new(f"{store.prefix}part-00000.csv", body)
        if self.fails:
            raise SourceError("the export failed", kind=Kind.REFUSED)
        file = StagedFile("part-00000.csv", number, len(body), len(body), compression="")
        destination.add([file] if number else [])
        return Exported(number, len(body), newest=None)


@pytest.fixture
def exporter(world: World) -> OwnObjects:
    made = OwnObjects()
    world.places = replace(world.places, source=replace(world.places.source, exporters={"client": made}))
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT n, E'a\\nb' FROM generate_series(1, 9) n"
    )
    return made


def test_objects_that_an_exporter_leaves_by_itself_are_loaded(world: World, exporter: OwnObjects) -> None:
    assert world.sync(config()).inserted == 9
    world.execute("UPDATE t SET v = '' WHERE id < 3", "DELETE FROM t WHERE id = 5")
    assert world.sync(config()).updated == 2
    receipt = world.sync(config(), reconcile=True)
    assert receipt.deleted == 1
    assert not world.sync(config()).changed
    assert world.assert_verified(config()) == 8
    assert not [key for key in world.objects() if key.endswith(".zst")]


def test_objects_of_an_export_that_failed_are_removed_by_gc(world: World, exporter: OwnObjects) -> None:
    exporter.fails = True
    with pytest.raises(SourceError, match="the export failed"):
        world.sync(config())
    (left,) = world.objects()
    assert left.endswith("/part-00000.csv")
    gc.collect(world.places, now=datetime.now(UTC) + gc.OLDER_THAN + timedelta(days=1))
    assert world.objects() == []

"""gc removes what killed attempts left, and keeps everything that may still be needed. Each test fails without its
guard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.cli.main import main
from aurora_sync.config.tables import TableConfig
from aurora_sync.embedded.stack import BUCKET
from aurora_sync.engine import gc, sync
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError, ConfigError, Kind, StageError
from aurora_sync.model.receipt import Receipt
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.base import Warehouse
from aurora_sync.warehouse.ddl import TableName
from aurora_sync_tests.scenarios.crash_anywhere.test_crash_anywhere import killed_at
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.conftest import folder, snowflake_warehouse  # noqa: F401 - fixtures

LATER = datetime.now(UTC) + gc.OLDER_THAN + timedelta(days=1)
CREATE = "CREATE TABLE t (id bigint PRIMARY KEY, v text)"
INSERT = "INSERT INTO t SELECT n, 'row ' || n FROM generate_series({}, {}) n"
T = config()
LOAD_ID = "0123456789ab"
STAGING = f"STAGING_T_{'a' * 16}_{LOAD_ID}"


@pytest.fixture
def world(dsn: str, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]) -> World:
    world = World(dsn, stage_url, warehouse_path)
    world.execute(CREATE, INSERT.format(1, 300))
    return world


def collected(world: World, **options: Any) -> dict[str, int]:
    return {heap.kind: heap.count for heap in gc.collect(world.places, **options)}


def nothing() -> dict[str, int]:
    return {"attempts": 0, "uploads": 0, "hints": 0, "staging tables": 0}


def make_staging_table(warehouse: Warehouse, name: str = STAGING) -> None:
    with warehouse.session() as session:
        session.query('CREATE SCHEMA IF NOT EXISTS "_AURORA_SYNC"')
        session.query(f'CREATE TRANSIENT TABLE {TableName("_AURORA_SYNC", name).sql} ("A" VARCHAR)')


@pytest.fixture
def paused(world: World) -> Iterator[Paused]:
    paused = Paused(world)
    yield paused
    paused.go_on()


class Paused:
    """A sync in its own thread that pauses at the start of a function until it is resumed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reached, self._released = threading.Event(), threading.Event()
        self._receipts: list[Receipt] = []
        self.error: AuroraSyncError | None = None
        self._patch = pytest.MonkeyPatch()
        self._thread = threading.Thread(target=self._sync)

    def begin(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wait(*arguments: Any, **keywords: Any) -> Any:
            self._reached.set()
            self._released.wait()
            return original(*arguments, **keywords)

        self._patch.setattr(owner, name, wait)
        self._thread.start()
        self._reached.wait()

    def go_on(self) -> list[Receipt]:
        self._released.set()
        if self._thread.ident:
            self._thread.join()
        self._patch.undo()
        return self._receipts

    def _sync(self) -> None:
        try:
            self._receipts.append(self._world.sync(T))
        except AuroraSyncError as error:  # read by the test's thread
            self.error = error
        finally:
            self._reached.set()


def test_nothing_is_collected_where_nothing_ever_ran(world: World) -> None:
    assert collected(world) == nothing()
    assert world.objects() == []


def test_what_a_manifest_names_stays_however_old_it_is(world: World) -> None:
    assert world.sync(T).changed
    before = world.objects()
    assert collected(world, now=LATER + timedelta(days=3650)) == nothing()
    assert world.objects() == before
    assert any(key.endswith("part-00000.csv.zst") for key in before)


def test_files_of_a_killed_attempt_go_when_they_are_old_enough(world: World, store_environment: dict[str, str]) -> None:
    world.sync(T)
    kept = world.objects()
    world.execute(INSERT.format(301, 600))
    assert killed_at("after_the_objects", T, world, store_environment)
    left = world.objects()
    assert len(left) > len(kept)
    assert collected(world) == nothing()
    assert world.objects() == left
    named: list[str] = []
    dry = gc.collect(world.places, now=LATER, dry_run=True, on_found=named.append)
    assert world.objects() == left
    assert gc.collect(world.places, now=LATER) == dry
    assert (dry[0].count, (dry[0].bytes or 0) > 0, len(named)) == (1, True, 1)
    assert world.objects() == kept
    assert collected(world, now=LATER) == nothing()
    world.sync(T)
    world.assert_equal(T)


def test_staging_table_of_a_killed_attempt_goes_and_its_manifest_stays(
    world: World, store_environment: dict[str, str]
) -> None:
    assert killed_at("after_copy_into", T, world, store_environment)
    assert len(world.staging_tables()) == 1
    objects = world.objects()
    assert collected(world) == nothing()
    assert len(world.staging_tables()) == 1
    assert collected(world, now=LATER, dry_run=True) == nothing() | {"staging tables": 1}
    assert len(world.staging_tables()) == 1
    assert collected(world, now=LATER) == nothing() | {"staging tables": 1}
    assert world.staging_tables() == []
    assert world.objects() == objects


def test_sync_between_export_and_manifest_is_untouched(world: World, paused: Paused) -> None:
    paused.begin(Stage, "commit")
    assert [key for key in world.objects() if key.endswith(".zst")]
    assert collected(world) == nothing()
    (receipt,) = paused.go_on()
    assert receipt.inserted == 300
    world.assert_equal(T)


def test_sync_between_manifest_and_merge_is_untouched(world: World, paused: Paused) -> None:
    paused.begin(sync, "apply_all")
    # the paused session holds the DuckDB file
    world.warehouse = type(world.warehouse)(world.warehouse_path.with_name("other"))
    places = Places(world.places.source, world.places.stage, world.warehouse)
    assert {heap.kind: heap.count for heap in gc.collect(places, now=LATER)} == nothing()
    assert paused.go_on()[0].inserted == 300
    world.assert_equal(T)


def test_attempt_that_is_collected_alive_loses_no_row(world: World, paused: Paused) -> None:
    """The clock jumped, or somebody chose a short limit: the run fails, and the next one has all rows."""
    paused.begin(Stage, "commit")
    assert collected(world, now=LATER)["attempts"] == 1
    assert paused.go_on() == []
    assert isinstance(paused.error, AuroraSyncError)
    world.sync(T)
    world.assert_equal(T)


def test_manifest_written_after_the_page_was_listed_saves_its_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime.now(UTC))
    store.put_new(prefix + layout.part_name(0), b"rows")
    pages = list(store.pages(store.prefix))
    store.put_new(prefix + layout.MANIFEST, b"{}")
    monkeypatch.setattr(Store, "pages", lambda *_: pages)
    assert collected(world, now=LATER) == nothing()
    assert store.get(prefix + layout.part_name(0)) == b"rows"


def test_unfinished_uploads_go_with_their_attempt_and_not_before(world: World) -> None:
    store = world.places.stage.store
    ours = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime.now(UTC)) + layout.part_name(0)
    for key in (ours, f"{store.prefix}theirs"):
        store.upload_part(key, store.start_upload(key), 1, b"x" * 1000)
    assert collected(world) == nothing()
    assert len(list(store.uploads(store.prefix))) == 2
    uploads = gc.collect(world.places, now=LATER)[1]
    assert (uploads.count, uploads.bytes) == (1, 1000)
    assert [key for key, _ in store.uploads(store.prefix)] == [f"{store.prefix}theirs"]


def test_superseded_hints_go_and_the_newest_few_stay(world: World) -> None:
    world.sync(T)
    for number in range(301, 311):
        world.execute(INSERT.format(number, number))
        world.sync(T)
    hints = [key for key in world.objects() if "/applied/" in key]
    assert collected(world)["hints"] == 11 - gc.HINTS_KEPT
    assert [key for key in world.objects() if "/applied/" in key] == hints[: gc.HINTS_KEPT]
    assert world.sync(T).run_sequence == 11


@pytest.mark.parametrize(
    "key",
    [
        "readme.txt",
        "public.t/readme.txt",
        "public.t/20200101T000000Z-0123456789ab/readme.txt",
        "public.t/20200101T000000Z-0123456789ab/part-00000.csv.zst.bak",
        "public.t/20200101T000000Z-0123456789ab/deeper/part-00000.csv.zst",
        "deeper/public.t/20200101T000000Z-0123456789ab/part-00000.csv.zst",
        "public.t/20201301T000000Z-0123456789ab/part-00000.csv.zst",
        "public.t/20200101T000000Z-0123456789AB/part-00000.csv.zst",
        "nodot/20200101T000000Z-0123456789ab/part-00000.csv.zst",
        "gc/readme.txt",
    ],
)
def test_object_that_is_not_of_our_form_stays(world: World, key: str) -> None:
    store = world.places.stage.store
    store.put_new(store.prefix + key, b"theirs")
    assert collected(world, now=LATER) == nothing()
    assert world.objects() == [store.prefix + key]


@pytest.mark.parametrize(
    "name", ["STAGING_MINE", f"STAGING_T_{LOAD_ID}", f"{STAGING}_OLD", STAGING.lower(), "FENCE_T_" + "a" * 16]
)
def test_table_of_another_form_in_the_log_schema_stays(world: World, name: str) -> None:
    make_staging_table(world.warehouse, name)
    gc.collect(world.places)
    assert collected(world, now=LATER) == nothing()
    assert world.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES") == [(name,)]


def test_staging_table_without_an_attempt_goes_when_it_was_missed_twice(world: World) -> None:
    """The table may be in use by another project with the same log schema."""
    make_staging_table(world.warehouse)
    assert collected(world, now=LATER) == nothing()
    assert collected(world, now=LATER + timedelta(days=1)) == nothing()
    assert collected(world, now=LATER + timedelta(days=7)) == nothing() | {"staging tables": 1}
    assert world.staging_tables() == []
    gc.collect(world.places)
    assert world.objects() == []


def test_many_objects_are_deleted_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime(2020, 1, 1, tzinfo=UTC))
    for number in range(7):
        store.put_new(prefix + layout.part_name(number), b"rows")
    client = store._client
    original = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **request: original(**request | {"MaxKeys": 2}))
    (attempts, *_) = gc.collect(world.places)
    assert (attempts.count, attempts.bytes) == (1, 28)
    assert world.objects() == []


def test_gc_that_was_killed_is_finished_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime(2020, 1, 1, tzinfo=UTC))
    for number in range(3):
        store.put_new(prefix + layout.part_name(number), b"rows")
    make_staging_table(world.warehouse)
    original = Store.delete

    def delete(self: Store, keys: list[str]) -> None:
        original(self, keys[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Store, "delete", delete)
        with pytest.raises(KeyboardInterrupt):
            gc.collect(world.places)
    assert len(world.objects()) == 2
    assert world.staging_tables() == [STAGING]
    assert collected(world) == nothing() | {"attempts": 1, "staging tables": 1}
    assert (world.objects(), world.staging_tables()) == ([], [])


def test_two_at_once_collect_the_same_and_harm_neither(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second gc runs completely between the first one's listing and deleting."""
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime(2020, 1, 1, tzinfo=UTC))
    store.put_new(prefix + layout.part_name(0), b"rows")
    make_staging_table(world.warehouse)
    original, others = Store.delete, list[dict[str, int]]()

    def delete(self: Store, keys: list[str]) -> None:
        monkeypatch.setattr(Store, "delete", original)
        others.append(collected(world))
        original(self, keys)

    monkeypatch.setattr(Store, "delete", delete)
    assert collected(world)["attempts"] == 1
    assert others == [nothing() | {"attempts": 1, "staging tables": 1}]
    assert (world.objects(), world.staging_tables()) == ([], [])


def test_objects_that_may_be_listed_and_not_deleted_are_a_clear_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime(2020, 1, 1, tzinfo=UTC))
    store.put_new(prefix + layout.part_name(0), b"rows")
    # S3 answers like this, with status 200
    refused = {"Errors": [{"Key": prefix, "Code": "AccessDenied", "Message": "no"}]}
    monkeypatch.setattr(store._client, "delete_objects", lambda **_: refused)
    with pytest.raises(StageError, match="AccessDenied") as raised:
        gc.collect(world.places)
    assert (raised.value.kind, "DeleteObject" in raised.value.hint) == (Kind.REFUSED, True)
    assert len(world.objects()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_snowflake_names_its_staging_tables_as_duckdb_does(world: World, snowflake_warehouse: Warehouse) -> None:  # noqa: F811
    make_staging_table(snowflake_warehouse)
    make_staging_table(snowflake_warehouse, "STAGING_MINE")
    places = Places(world.places.source, world.places.stage, snowflake_warehouse)
    gc.collect(places)
    assert gc.collect(places, now=LATER)[3].count == 1
    assert gc.collect(places, now=LATER)[3].count == 0


def test_credentials_that_are_refused_are_a_clear_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StageError, match="AWS_SECRET_ACCESS_KEY") as raised:
        gc.collect(world.places)
    assert raised.value.kind is Kind.REFUSED


def test_missing_bucket_is_a_clear_error(world: World) -> None:
    places = Places(world.places.source, Stage(Store(f"{BUCKET}-missing")), world.warehouse)
    with pytest.raises(StageError, match="create the bucket"):
        gc.collect(places)


def test_limit_is_never_shorter_than_a_run_may_take() -> None:
    slow = TableConfig(table_name="slow", watermark_type="xmin", max_snapshot_minutes=3000)
    assert gc.age_limit([]) == gc.age_limit([T]) == timedelta(days=2)
    assert gc.age_limit([T, slow]) == timedelta(minutes=9000)
    chunked = TableConfig.model_validate(
        {"table_name": "chunked", "watermark_type": "xmin", "load": {"max_chunk_minutes": 3000}}
    )
    assert gc.age_limit([T, chunked]) == timedelta(minutes=9000)
    assert gc.age_limit([T], timedelta(hours=6)) == timedelta(hours=6)
    with pytest.raises(ConfigError, match="the snapshot of slow may stay open for 3000 minutes"):
        gc.age_limit([T, slow], timedelta(days=2))


@pytest.fixture
def settings(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables: [{table_name: t, watermark_type: xmin}]", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))


@pytest.mark.usefixtures("settings")
def test_command_shows_what_would_go_and_then_removes_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    store = world.places.stage.store
    prefix = layout.attempt_prefix(store.prefix, "public.t", LOAD_ID, datetime(2020, 1, 1, tzinfo=UTC))
    store.put_new(prefix + layout.part_name(0), b"rows")
    assert main(["gc", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert store.uri(prefix) in printed
    assert "attempts 1 0.0 MB" in " ".join(printed.split())
    assert len(world.objects()) == 1
    assert main(["gc", "--json", "--older-than", "12h"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["collected"][0] == {"kind": "attempts", "count": 1, "bytes": 4}
    assert world.objects() == []


@pytest.mark.usefixtures("settings")
def test_command_refuses_an_age_that_running_syncs_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--older-than", "5h"]) == 2
    assert "choose at least 6:00:00" in capsys.readouterr().err

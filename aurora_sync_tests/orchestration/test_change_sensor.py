import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg
import psycopg2
import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.runners.topic import _problems_of_topics
from aurora_sync.errors import Kind, SourceError
from aurora_sync.orchestration import change_sensor, compat
from aurora_sync.orchestration.assets import TableAsset, asset_key
from aurora_sync.orchestration.automation import changes_job
from aurora_sync.orchestration.change_sensor import FORCED_HOURS, GROUP, RETRY_SECONDS, read_marks, tick
from aurora_sync.orchestration.project import Project
from aurora_sync.orchestration.resources import Connections
from aurora_sync.source.connection import PinnedCursor
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync_tests.orchestration.conftest import Execute, run

HOUR = 3600.0


def config(name: str, **options: Any) -> TableConfig:
    return TableConfig.model_validate({"table_name": name, "watermark_type": "xmin", **options})


def assets(tables: Iterable[TableConfig]) -> list[TableAsset]:
    return [TableAsset(table, dg.AssetSpec(asset_key(table))) for table in tables]


def sensor_of(tables: Iterable[TableConfig]) -> dg.SensorDefinition:
    project, watched = Project("test", Connections(), "app", "duckdb"), assets(tables)
    return change_sensor.change_sensor(watched, changes_job(watched, project), project)


A, B = config("a"), config("b")
FRESH = config("fresh", freshness="2h")


class Daemon:
    """Stand-in for Dagster's daemon: runs what the sensor requests, in this process."""

    def __init__(self, instance: dg.DagsterInstance, *tables: TableConfig) -> None:
        self.instance = instance
        self.tables = tables
        self.cursor: str | None = None
        self.marks = {table.qualified_name: "first" for table in tables}
        self.failing: set[str] = set()
        self.now = 1_000_000.0
        self.beats: list[str] = []
        self.observed: list[str] = []

    def tick(self, *, after: float = 30.0, launch: bool = True) -> list[str]:
        """Evaluate the sensor ``after`` seconds. Return the names of the requested tables."""
        self.now += after
        memory = change_sensor.from_cursor(self.cursor)
        result = tick(self.instance, "test", assets(self.tables), memory, self.marks, self.now, "app")
        self.cursor = result.cursor
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.beats, self.observed = [], []
        for event in result.asset_events:
            kept = self.observed if isinstance(event, dg.AssetObservation) else self.beats
            kept.append(event.asset_key.path[-1])
        names = []
        for request in result.run_requests or ():
            wanted = [key.path[-1] for key in request.asset_selection or ()]
            names += wanted
            if launch:
                self.launch(wanted, request.run_key)
        return names

    def launch(self, names: list[str], run_key: str | None) -> None:
        made = []
        for table in self.tables:
            if table.table_name in names:

                @dg.asset(key=asset_key(table))
                def synced(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
                    if context.asset_key.path[-1] in self.failing:
                        raise dg.Failure("no")
                    return dg.MaterializeResult(
                        data_version=dg.DataVersion("7"), metadata={"dagster/row_count": 3, "run_sequence": 7}
                    )

                made.append(synced)
        run(dg.Definitions(assets=made), self.instance, tags={"dagster/run_key": run_key}, raise_on_error=False)


def test_first_tick_requests_every_table_and_the_next_none(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A, B)
    assert daemon.tick() == ["a", "b"]
    assert daemon.tick() == []


def test_only_the_changed_table_is_requested(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A, B)
    daemon.tick()
    daemon.marks["public.b"] = "second"
    assert daemon.tick() == ["b"]
    assert daemon.tick() == []


def test_tables_are_requested_in_groups(instance: dg.DagsterInstance) -> None:
    tables = [config(f"t{i}") for i in range(2 * GROUP + 1)]
    result = tick(instance, "test", assets(tables), {}, {}, 1.0, "app")
    assert [len(request.asset_selection or ()) for request in result.run_requests or ()] == [GROUP, GROUP, 1]
    assert len({request.run_key for request in result.run_requests or ()}) == 3


def test_table_whose_run_goes_on_is_not_requested_again_until_it_ended(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A)
    assert daemon.tick(launch=False) == ["a"]
    key = change_sensor.from_cursor(daemon.cursor)["public.a"].run_key
    daemon.marks["public.a"] = "second"
    assert daemon.tick() == []
    daemon.launch(["a"], key)
    assert daemon.tick() == ["a"]


def test_table_does_not_wait_for_the_other_tables_of_its_run(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A, B)
    daemon.tick(launch=False)
    run_key = change_sensor.from_cursor(daemon.cursor)["public.a"].run_key
    during: list[list[str]] = []

    @dg.asset(key=asset_key(A))
    def first() -> None: ...

    @dg.asset(key=asset_key(B), deps=[first])
    def second() -> None:
        daemon.marks = {"public.a": "second", "public.b": "second"}
        during.append(daemon.tick(launch=False))

    run(dg.Definitions(assets=[first, second]), instance, tags={"dagster/run_key": run_key})
    assert during == [["a"]]
    assert daemon.tick(launch=False) == ["b"]


def test_failed_table_is_requested_again_and_the_others_of_its_run_are_not(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A, B)
    daemon.failing = {"a"}
    daemon.tick()
    assert daemon.tick(after=RETRY_SECONDS) == ["a"]
    daemon.failing = set()
    assert daemon.tick(after=RETRY_SECONDS) == []
    assert daemon.tick(after=RETRY_SECONDS) == ["a"]
    assert daemon.tick(after=RETRY_SECONDS) == []


def test_table_that_keeps_failing_is_requested_more_and_more_slowly(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A)
    daemon.failing = {"a"}
    times = [daemon.now for _ in range(600) if daemon.tick(after=30)]
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert gaps == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_run_that_vanished_is_requested_again(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A)
    assert daemon.tick(launch=False) == ["a"]
    assert daemon.tick(after=60, launch=False) == []
    assert daemon.tick(after=change_sensor.LOST_SECONDS) == ["a"]


def test_every_table_is_requested_within_the_forced_hours_though_unchanged(instance: dg.DagsterInstance) -> None:
    tables = [config(f"t{i}") for i in range(20)]
    daemon = Daemon(instance, *tables)
    daemon.tick()
    assert daemon.tick(after=0.74 * FORCED_HOURS * HOUR) == []
    early = daemon.tick(after=0.13 * FORCED_HOURS * HOUR)
    assert 0 < len(early) < 20
    rest = daemon.tick(after=0.13 * FORCED_HOURS * HOUR)
    assert sorted(early + rest) == sorted(table.table_name for table in tables)


def test_heartbeat_keeps_an_unchanged_table_fresh_without_a_run(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, FRESH, A)
    daemon.tick()
    assert daemon.tick(after=0.5 * HOUR) == []
    assert daemon.beats == []
    assert daemon.tick(after=0.5 * HOUR) == []
    assert daemon.beats == ["fresh"]
    event = instance.get_latest_materialization_event(asset_key(FRESH))
    assert event is not None
    beat = event.asset_materialization
    assert beat is not None
    assert (beat.tags or {})["dagster/data_version"] == "7"
    assert beat.metadata["rows_exported"].value == 0
    assert beat.metadata["dagster/row_count"].value == 3
    assert daemon.tick() == []
    assert daemon.beats == []


def test_no_heartbeat_for_a_table_that_failed_or_whose_changes_cannot_be_seen(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, FRESH)
    daemon.tick()
    daemon.failing = {"fresh"}
    daemon.marks["public.fresh"] = "second"
    assert daemon.tick() == ["fresh"]
    daemon.tick(after=2 * HOUR, launch=False)
    assert daemon.beats == []

    unseen = Daemon(instance, FRESH)
    unseen.marks["public.fresh"] = ""
    unseen.tick()
    assert unseen.tick(after=HOUR) == []
    assert unseen.beats == []


def test_no_heartbeat_hides_the_failure_of_a_run_that_a_schedule_requested(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, FRESH, config("other", freshness="2h"))
    daemon.tick()
    daemon.failing = {"fresh"}
    daemon.launch(["fresh", "other"], None)
    key = asset_key(FRESH)
    failed = compat.latest_runs(instance, [key])[key].run_id

    def beats() -> set[str]:
        beats = set()
        for after in (HOUR, 30.0):  # one in each tick
            daemon.tick(after=after)
            beats |= set(daemon.beats)
        return beats

    assert beats() == {"other"}
    assert compat.latest_runs(instance, [key])[key].run_id == failed
    daemon.failing = set()
    daemon.launch(["fresh"], None)
    assert beats() == {"fresh", "other"}


def test_heartbeats_of_many_tables_are_spread_over_ticks(instance: dg.DagsterInstance) -> None:
    tables = [config(f"t{i}", freshness="2h") for i in range(40)]
    daemon = Daemon(instance, *tables)
    daemon.tick()
    beats = []
    for after in [40 * 60.0, *[30.0] * 39]:
        daemon.tick(after=after)
        assert len(daemon.beats) <= 2
        beats += daemon.beats
    assert sorted(set(beats)) == sorted(table.table_name for table in tables)


def test_source_of_an_unchanged_table_is_observed_after_an_hour(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A)
    daemon.tick()
    times = [daemon.now for _ in range(300) if daemon.tick() == [] and daemon.observed == ["a"]]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [3600]
    record = instance.fetch_observations(dg.AssetKey(["aurora", "app", "public", "a"]), limit=1).records[0]
    assert record.asset_observation is not None
    assert str(record.asset_observation.metadata["state"].value).startswith(
        "Unchanged since its sync was requested at "
    )


def test_source_of_a_failing_table_is_not_observed_as_unchanged(instance: dg.DagsterInstance) -> None:
    daemon = Daemon(instance, A)
    daemon.failing = {"a"}
    daemon.tick()
    times = [daemon.now for _ in range(200) if (daemon.tick() or True) and daemon.observed == ["a"]]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [3600]
    record = instance.fetch_observations(dg.AssetKey(["aurora", "app", "public", "a"]), limit=1).records[0]
    assert record.asset_observation is not None
    assert str(record.asset_observation.metadata["state"].value).endswith("has not succeeded")


def test_sources_of_many_tables_are_observed_a_few_in_each_tick(instance: dg.DagsterInstance) -> None:
    tables = [TableAsset(each, dg.AssetSpec(asset_key(each))) for each in (config(f"t{i}") for i in range(1000))]
    read = {table.name: "mark" for table in tables}
    memory = {name: change_sensor.Request(mark, at=0.0, requested=0.0) for name, mark in read.items()}
    observed: list[dg.AssetKey] = []
    for number in range(120):
        result = tick(instance, "test", tables, memory, read, 3600.0 + 30 * number, "app")
        assert len(result.asset_events) <= 9
        observed += [event.asset_key for event in result.asset_events]
        memory = change_sensor.from_cursor(result.cursor)
    assert len(set(observed)) == len(observed) == 1000


@pytest.fixture
def marks(dsn: str) -> Callable[[str], str]:
    """Return a function that reads the mark of one table."""

    def read(name: str) -> str:
        return read_marks(dsn, [config(name)]).get(f"public.{name}", "gone")

    return read


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO t VALUES (2)",
        "UPDATE t SET id = 3",
        "DELETE FROM t",
        "TRUNCATE t",
        "ALTER TABLE t ADD COLUMN extra int DEFAULT 7",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
        "DROP TABLE t; CREATE TABLE t (id int)",
    ],
)
def test_mark_moves_with_every_kind_of_change(execute: Execute, marks: Callable[[str], str], change: str) -> None:
    execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    before = marks("t")
    assert before == marks("t")
    execute(change)
    assert marks("t") != before


def test_mark_moves_with_a_change_of_a_partition_and_a_new_one(execute: Execute, marks: Callable[[str], str]) -> None:
    execute(
        "CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9)"
    )
    seen = [marks("t")]
    execute("INSERT INTO t1 VALUES (1)")
    seen.append(marks("t"))
    execute("CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (9) TO (19)")
    seen.append(marks("t"))
    assert len(set(seen)) == 3


def test_view_has_no_mark_and_a_missing_table_is_missing(execute: Execute, marks: Callable[[str], str]) -> None:
    execute("CREATE VIEW v AS SELECT 1 AS id")
    assert marks("v") == ""
    assert marks("nothing") == "gone"


def test_files_that_cannot_be_looked_at_hide_those_of_no_other_table(
    execute: Execute, settings: None, stage_url: str, instance: dg.DagsterInstance
) -> None:
    execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    places = {"a": "s3://no-such-bucket-here/x", "b": f"{stage_url}/dms"}
    tables = [config(name, watermark_type="dms", files=files) for name, files in places.items()]
    sensor = sensor_of(tables)
    result = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    memory = change_sensor.from_cursor(result.cursor)
    assert [memory[f"public.{name}"].mark.startswith("files") for name in places] == [False, True]


def test_topic_that_is_refused_hides_no_other_topic(
    execute: Execute, settings: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patch ``Kafka.ends``, because the mock of a broker has no access lists."""
    execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")

    def ends(_: Kafka, names: Sequence[str]) -> dict[str, dict[int, int]]:
        if "p.public.a" in names:
            raise SourceError("Topic authorization failed", where="topic p.public.a", kind=Kind.REFUSED)
        return {name: {0: 7} for name in names}

    monkeypatch.setattr(Kafka, "ends", ends)
    tables = [config(name, watermark_type="debezium", topic_prefix="p") for name in ("a", "b")]
    sensor = sensor_of(tables)
    result = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    memory = change_sensor.from_cursor(result.cursor)
    assert [memory[f"public.{name}"].mark.startswith("topic") for name in "ab"] == [False, True]
    source = Connections().places().source
    assert list(_problems_of_topics(["p.public.a", "p.public.b"], source)) == [
        "topic p.public.a: Topic authorization failed"
    ]


def test_idle_tick_over_1000_tables_is_one_query(
    dsn: str, execute: Execute, settings: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute("SELECT 1; " + "".join(f"CREATE TABLE t{i} (id int); " for i in range(1000)))
    tables = [config(f"t{i}") for i in range(1000)]
    first = tick(instance, "test", assets(tables), {}, read_marks(dsn, tables), 0.0, "app")
    settled = {
        name: change_sensor.Request(request.mark, request.at, request.requested)
        for name, request in change_sensor.from_cursor(first.cursor).items()
    }
    statements: list[str] = []

    class Counting(PinnedCursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            statements.append(query)
            super().execute(query, vars)

    connect = psycopg2.connect
    monkeypatch.setattr(psycopg2, "connect", lambda *a, **k: connect(*a, **k | {"cursor_factory": Counting}))
    result = tick(instance, "test", assets(tables), settled, read_marks(dsn, tables), 60.0, "app")
    assert len(statements) == 1
    assert not result.run_requests
    assert not result.asset_events

"""Tests of the clock fence: the triggers that it accepts, its preconditions, and the fence in the watermark."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from aurora_sync.model.fences import ClockOffset
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.strategies import clock
from aurora_sync.strategies.base import ReadPlan, Since
from aurora_sync.strategies.timestamp import Timestamp
from aurora_sync_tests.strategies.observations import NOON, at, column, config, rendered, since, table, touched

STRATEGY = Timestamp()
CONFIG = config("timestamp", watermark_col="at")
TABLE = touched()


def after(*moments: Observation, source: SourceTable = TABLE) -> Since:
    standing: Since | None = None
    for moment in moments:
        standing = since("timestamp", STRATEGY.advance(CONFIG, source, standing, moment), moment)
    assert standing is not None
    return standing


def fence(*moments: Observation) -> datetime | None:
    stored = after(*moments).watermark.value["fence"]
    return datetime.fromisoformat(stored) if stored else None


def plan(standing: Since | None, moment: Observation, source: SourceTable = TABLE, **keys: Any) -> ReadPlan:
    return STRATEGY.plan(CONFIG.model_copy(update=keys), source, standing, moment)


def where(found: ReadPlan) -> str:
    return rendered(found.where)


def method(source: SourceTable, **keys: Any) -> str:
    return plan(after(at(), source=touched()), at(1), source, **keys).method


@pytest.mark.parametrize(
    "body",
    [
        "NEW.at := now();",
        "new.at = NOW( ) ;",
        'NEW . "at" := clock_timestamp();',
        "NEW.at := CURRENT_TIMESTAMP;",
        "NEW.at := current_timestamp(3);",
        "NEW.at := pg_catalog.transaction_timestamp();",
        "NEW.at := statement_timestamp();",
        "NEW.at := localtimestamp;",
        "NEW.other := 5; NEW.at := now();",
        "-- if it matters\n NEW.at := now();",
        "NEW.at := NOW(); NEW.other := (SELECT max(at) FROM t); NEW.at := now();",
    ],
)
def test_trigger_that_always_writes_the_clock_is_recognised(body: str) -> None:
    assert method(touched(body)) == "clock fence"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "NEW.other := now();",
        "NEW.at_all := now();",
        "NEW.at := 'infinity';",
        "NEW.at := coalesce(NEW.at, now());",
        "NEW.at := now() - interval '1 day';",
        "NEW.at := date_trunc('hour', now());",
        "NEW.at := now() AT TIME ZONE 'UTC';",  # cast back with the session's zone: hours off
        "NEW.at := current_date;",
        "IF NEW.at IS NULL THEN NEW.at := now(); END IF;",
        "IF TG_OP = 'INSERT' THEN NEW.at := now(); END IF;",
        "-- NEW.at := now();\n",
        "/* NEW.at := now();\n */",
        "NEW.at := now(); NEW.at := OLD.at;",
        "NEW.at := now(); SELECT OLD.at INTO NEW.at;",
        "NEW.at := now(); NEW := OLD;",
        "NEW.at := now(); SELECT OLD.* INTO STRICT NEW;",
        "NEW.at := now(); RETURN jsonb_populate_record(NEW, to_jsonb(OLD));",
        "NEW.at := now(); NEW.v := coalesce(NEW.v, '--'); NEW.at := NEW.sent_at;",
        "NEW.at := now(); -- until here\rNEW.at := NEW.sent_at;\n",
        "/* /* */ NEW.at := now(); */",
        'NEW.at := now(); "new" := OLD;',
        "NEW.at := now(); PERFORM f();",
        'NEW.at := "current_timestamp";',
        "BEGIN NEW.at := now(); EXCEPTION WHEN OTHERS THEN NULL; END;",
    ],
)
def test_trigger_that_may_write_something_else_is_not_trusted(body: str) -> None:
    assert method(touched(body)) == "horizon scan"


def test_wall_clock_of_a_zone_is_trusted_in_a_column_without_zone() -> None:
    assert method(touched("NEW.at := now() AT TIME ZONE 'utc';", base_type="timestamp")) == "clock fence"
    far_behind = touched("NEW.at := now() AT TIME ZONE '<x>+100';", base_type="timestamp")  # 100 hours
    assert method(far_behind) == "horizon scan"


def test_unqualified_name_that_may_mean_another_function_is_not_trusted() -> None:
    shadowed = {"clock_shadowed": True}
    assert method(touched("NEW.at := now();", trigger=shadowed)) == "horizon scan"
    assert method(touched("NEW.at := pg_catalog.now();", trigger=shadowed)) == "clock fence"
    assert method(touched("NEW.at := CURRENT_TIMESTAMP;", trigger=shadowed)) == "clock fence"


def test_trigger_that_is_not_read_is_named() -> None:
    (warning,) = plan(after(at()), at(1), touched("PERFORM f(); NEW.at := now();")).reasons
    assert "trigger touch may set it to something else" in warning


@pytest.mark.parametrize(
    "change", [{"before": False}, {"row": False}, {"enabled": False}, {"on_insert": False}, {"on_update": False}]
)
def test_trigger_that_does_not_fire_for_every_row_is_not_trusted(change: dict[str, bool]) -> None:
    assert method(touched(trigger=change)) == "horizon scan"


def test_two_triggers_may_share_the_work_and_a_third_may_spoil_it() -> None:
    inserting = touched(trigger={"on_update": False}).triggers
    updating = touched(trigger={"on_insert": False}).triggers
    at_ = column("at", "timestamptz", not_null=True)
    assert method(table(at_, triggers=inserting + updating)) == "clock fence"
    spoiling = touched("NEW.at := OLD.at;").triggers
    assert method(table(at_, triggers=inserting + updating + spoiling)) == "horizon scan"


@pytest.mark.parametrize(
    ("body", "change", "expected"),
    [
        ("NEW.other := 5;", {}, "clock fence"),
        ("NEW.at_all := OLD.at_all;", {}, "clock fence"),
        ("SELECT OLD.at INTO NEW.at;", {"before": False}, "clock fence"),  # AFTER: the row has already been written
        ("SELECT OLD.at INTO NEW.at;", {"enabled": False}, "clock fence"),
        ("SELECT OLD.at INTO NEW.at;", {}, "horizon scan"),
        ("SELECT OLD.at INTO NEW.at;", {"on_insert": False}, "horizon scan"),
        ("SELECT OLD.* INTO NEW;", {}, "horizon scan"),
        ("new = old;", {}, "horizon scan"),
        ("RETURN NEW #= hstore(TG_ARGV[0], '');", {}, "horizon scan"),
        ("OLD.other := 5; RETURN OLD;", {}, "horizon scan"),
        ("PERFORM pg_notify('x', NEW.id::text);", {}, "horizon scan"),
        ("", {"language": "c"}, "horizon scan"),
        ("SD['x'] = 1", {"language": "plpython3u"}, "horizon scan"),
    ],
)
def test_second_trigger_spoils_what_the_first_wrote_unless_its_text_shows_that_it_cannot(
    body: str, change: dict[str, Any], expected: str
) -> None:
    second = touched(body, trigger=change).triggers
    assert method(table(column("at", "timestamptz", not_null=True), triggers=TABLE.triggers + second)) == expected


def test_column_whose_name_is_no_word_is_looked_for_as_well() -> None:
    keeping, spoiling = (touched(f'NEW."#at" := {value};').triggers for value in ("now()", 'OLD."#at"'))
    named = CONFIG.model_copy(update={"watermark_col": "#at"})
    for triggers, expected in ((keeping, "clock fence"), (keeping + spoiling, "horizon scan")):
        source = table(column("#at", "timestamptz", not_null=True), triggers=triggers)
        standing = since("timestamp", STRATEGY.advance(named, source, None, at()), at())
        fenced = standing.watermark.value["fence"] is not None
        assert (STRATEGY.plan(named, source, standing, at(1)).method, fenced) == (expected, expected == "clock fence")


def test_fence_is_not_used_after_a_trigger_was_touched_and_comes_back_with_the_next_run() -> None:
    """The trigger may have been off in between; then rows were written without the clock."""
    then, now = replace(TABLE, trigger_version="before"), replace(TABLE, trigger_version="after")
    standing = after(at(), source=then)
    assert plan(standing, at(1), then).method == "clock fence"
    assert plan(standing, at(1), now).method == "horizon scan"
    assert plan(after(at(), at(1), source=now), at(2), now).method == "clock fence"
    prepared = at(1, prepared_transactions=1)  # no new fence is possible, and the old one may not be kept
    assert STRATEGY.advance(CONFIG, now, standing, prepared)["fence"] is None


def test_fence_is_not_used_after_the_table_was_rewritten() -> None:
    """ALTER COLUMN ... TYPE ... USING gives every row new values without firing a trigger."""
    assert plan(after(at()), at(1, token={"members": {"16400": 99}})).method == "horizon scan"


def test_declared_by_the_user() -> None:
    assert method(touched(""), watermark_set_by="database") == "clock fence"
    assert method(TABLE, watermark_set_by="application") == "horizon scan"
    assert method(touched(subscribed=True)) == "horizon scan"


@pytest.mark.parametrize(
    ("moment", "objection"),
    [
        ({"clock": {"hidden_sessions": 3}}, "3 sessions do not show when their transaction began"),
        ({"token": {"in_recovery": True}}, "reader"),
    ],
)
def test_what_hides_an_open_transaction_is_an_objection(moment: dict[str, Any], objection: str) -> None:
    found = plan(after(at()), at(1, **moment))
    assert found.method == "horizon scan"
    assert objection in found.reasons[0]
    assert fence(at(**moment)) is None


def test_watermark_is_the_oldest_open_transaction_less_the_margin() -> None:
    began = NOON - timedelta(minutes=30)
    assert fence(at(clock={"opened": began})) == began - clock.MARGIN
    found = plan(after(at(clock={"opened": began})), at(1))
    assert (found.method, where(found)) == ("clock fence", "\"at\" >= '2026-06-01T11:29:00+00:00'::timestamptz")


def test_watermark_stands_still_while_a_transaction_is_prepared() -> None:
    """A prepared transaction is not in pg_stat_activity, and nothing shows when it began."""
    assert fence(at(prepared_transactions=1)) is None
    assert fence(at(), at(5, prepared_transactions=1), at(9, prepared_transactions=2)) == NOON - clock.MARGIN
    assert fence(at(), at(5, prepared_transactions=1), at(9)) == NOON + timedelta(minutes=9) - clock.MARGIN
    assert "prepared transactions" in plan(after(at()), at(5, prepared_transactions=1)).warnings[-1]


@pytest.mark.parametrize(
    "standing",
    [
        Since(after(at()).watermark, restarted=True),
        since("timestamp", {"column": "other", "triggers": "", "fence": NOON.isoformat()}, at()),
        since("xmin", {"horizon": 5}, at()),
        after(at(60)),  # the clock was set back
    ],
)
def test_watermark_that_may_not_be_used_is_scanned_around(standing: Since) -> None:
    found = plan(standing, at(1))
    assert found.method == "horizon scan"
    assert found.warnings == ()


def test_step_of_a_clock_between_two_runs_is_scanned_around_and_named() -> None:
    """Times that were written meanwhile are minutes below the fence, although the next run is later by both clocks."""
    stepped = ClockOffset(-300.0, -299.99)
    found = plan(after(at()), at(7, offset=stepped))
    assert found.method == "horizon scan"
    assert "was +0.0 s from the runner's at the last run, and is -300.0 s now" in found.reasons[0]
    assert (
        plan(after(at(), at(7, offset=stepped, clock={"offset": stepped})), at(9, offset=stepped)).method
        == "clock fence"
    )
    forth = plan(after(at()), at(7, offset=ClockOffset(300.0, 300.01)))
    assert forth.method == "horizon scan"


def test_step_between_the_fence_and_its_snapshot_is_noticed_by_the_next_run() -> None:
    stepped = ClockOffset(-300.0, -299.99)
    assert plan(after(at(offset=stepped)), at(7, offset=stepped)).method == "horizon scan"


def test_no_fence_is_taken_while_a_transaction_from_before_the_step_may_be_in_progress() -> None:
    """The rows of such a transaction have times of the clock that was set back, below any fence that is looked up
    now."""
    stepped = ClockOffset(-300.0, -299.99)
    values: dict[str, Any] = {"offset": stepped, "clock": {"offset": stepped}}
    noticed, still_open = at(7, xmin=1000, xmax=1005, **values), at(8, xmin=1003, xmax=1010, **values)
    assert fence(at(), noticed) is None
    assert fence(at(), noticed, still_open) is None
    ended = at(9, xmin=1005, xmax=1010, **values)
    assert fence(at(), noticed, still_open, ended) is not None


def test_step_that_the_margin_covers_is_not_scanned_around() -> None:
    assert plan(after(at()), at(7, offset=ClockOffset(-29.0, -28.0))).method == "clock fence"
    unsure = ClockOffset(-31.0, 1.0)  # the answer took 32 s
    assert plan(after(at()), at(7, offset=unsure)).method == "horizon scan"
    assert clock.MOST_STEP < clock.MARGIN


def test_fence_that_stands_still_keeps_the_offset_of_its_own_moment() -> None:
    """A newer offset would hide two steps, each within the limit, whose sum exceeds it."""
    once, twice = ClockOffset(-25.0, -25.0), ClockOffset(-50.0, -50.0)
    prepared = at(1, prepared_transactions=1, offset=once, clock={"offset": once})
    standing = after(at(), prepared)
    assert standing.watermark.value["fence"] is not None
    assert plan(standing, at(2, offset=once)).method == "clock fence"
    assert plan(standing, at(2, offset=twice)).method == "horizon scan"
    gone = at(2, prepared_transactions=1, offset=twice, clock={"offset": twice})
    assert after(at(), prepared, gone).watermark.value["fence"] is None


def test_watermark_without_an_offset_costs_one_scan() -> None:
    """Earlier releases wrote watermarks without an offset."""
    value = {name: part for name, part in after(at()).watermark.value.items() if name != "clock_offset"}
    old = since("timestamp", value, at())
    assert (plan(old, at(1)).method, plan(old, at(1)).warnings) == ("horizon scan", ())
    standing = since("timestamp", STRATEGY.advance(CONFIG, TABLE, old, at(1)), at(1))
    assert plan(standing, at(2)).method == "clock fence"
    assert STRATEGY.advance(CONFIG, TABLE, old, at(1, prepared_transactions=1))["fence"] is None


def test_column_without_zone_reads_twelve_hours_again() -> None:
    found = plan(after(at()), at(1), touched(base_type="timestamp"))
    assert where(found) == "\"at\" >= ('2026-05-31T23:59:00+00:00'::timestamptz AT TIME ZONE 'UTC')"
    assert "no time zone" in found.warnings[0]


def test_column_without_zone_is_certified_if_its_trigger_names_the_zone() -> None:
    for body, doubts in (("NEW.at := now();", 1), ("NEW.at := now() AT TIME ZONE 'UTC';", 0)):
        source = touched(body, base_type="timestamp", trigger={"always": True})
        assert len(plan(after(at(), source=source), at(1), source).doubts) == doubts


def test_time_without_zone_that_is_moved_to_another_is_not_trusted() -> None:
    assert method(touched("NEW.at := LOCALTIMESTAMP AT TIME ZONE 'UTC';", base_type="timestamp")) == "horizon scan"


def test_generated_column_is_not_what_a_trigger_writes() -> None:
    made = column("at", "timestamptz", generated=True, default="sent_at")
    assert method(table(made, triggers=TABLE.triggers)) == "horizon scan"


def test_date_reads_the_whole_day_again() -> None:
    found = plan(after(at()), at(1), touched(base_type="date"))
    assert where(found) == "\"at\" >= ('2026-05-31T23:59:00+00:00'::timestamptz AT TIME ZONE 'UTC')::date"


def test_null_times_are_read_with_every_run() -> None:
    nullable = touched()
    nullable = table(column("at", "timestamptz"), triggers=nullable.triggers)
    assert where(plan(after(at()), at(1), nullable)).endswith('OR "at" IS NULL)')


def test_first_run_reads_everything() -> None:
    found = plan(None, at())
    assert (found.where, found.disposition) == (None, Disposition.REPLACE)


def test_other_types_are_refused() -> None:
    assert "must be timestamp" in STRATEGY.problems(CONFIG, table(column("at", "text")))[0]
    assert STRATEGY.problems(CONFIG, TABLE) == []


def test_trigger_that_a_replica_session_passes_by_is_a_doubt() -> None:
    (doubt,) = plan(after(at()), at(1)).doubts
    assert "session_replication_role" in doubt
    assert "(touch)" in doubt
    always = touched(trigger={"always": True})
    assert plan(after(at(), source=always), at(1), always).doubts == ()


def test_each_of_insert_and_update_needs_a_trigger_that_fires_in_every_session() -> None:
    at_ = column("at", "timestamptz", not_null=True)
    inserting = touched(trigger={"on_update": False, "always": True}).triggers
    updating = touched(trigger={"on_insert": False, "name": "later"}).triggers
    source = table(at_, triggers=inserting + updating)
    assert len(plan(after(at(), source=source), at(1), source).doubts) == 1
    updating = touched(trigger={"on_insert": False, "name": "later", "always": True}).triggers
    source = table(at_, triggers=inserting + updating)
    assert plan(after(at(), source=source), at(1), source).doubts == ()

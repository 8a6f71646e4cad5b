"""Events of the real engine, decoded: every value is what PostgreSQL prints, or an error says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.source.debezium.events import Operation
from aurora_sync.source.logical.pgoutput import UNCHANGED
from aurora_sync_tests.scenarios.debezium_events.conftest import CONFIGURATIONS, Captured, stops
from aurora_sync_tests.scenarios.debezium_events.tables import HIDDEN, REFUSED, TOASTED, TYPES

SCHEMA_ONLY = {"mood[]"}  # decoded only with a schema
OF_CONFIGURATION = {
    "careless": {"numeric[]"},
    "iso": {"time", "time(3)", "time(0)"},
    "iso_with_schema": {"time", "time(3)", "time(0)"},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_value_is_what_postgresql_prints(captured: dict[str, Captured], name: str) -> None:
    of = captured[name]
    refused = REFUSED | OF_CONFIGURATION.get(name, set()) | (set() if "schema" in name else SCHEMA_ONLY)
    finite = replace(of.modes, infinite_intervals=False)
    wrong, right = [], 0
    for table, type_ in TYPES.items():
        columns = of.columns[table]
        oracle = of.printed[table]
        try:
            events = {e.after[0]: e for e in of.events(table, columns, finite) if e.after}
        except ConfigError as error:
            if type_.type not in refused or error.where != f"shop.{table}.v":
                wrong.append(f"{type_.type}: {error}")
            continue
        if type_.type in refused:
            wrong.append(f"{type_.type}: read, and should be refused")
        for number, text in oracle.items():
            after = events[number].after
            assert after is not None
            if after[2] != text and not (type_.type == "interval" and text in (b"infinity", b"-infinity")):
                wrong.append(f"{type_.type}: {after[2]!r:.100} for {text!r:.100}")
            right += 1
    assert wrong == []
    assert right > 250


def test_a_zero_interval_is_refused_since_infinity_comes_as_zero(captured: dict[str, Captured]) -> None:
    of = captured["advised"]
    table = next(table for table, type_ in TYPES.items() if type_.type == "interval")
    with pytest.raises(ConfigError, match="infinite interval"):
        list(of.events(table, of.columns[table]))


@pytest.mark.parametrize("name", ["advised", "with_schema", "adaptive", "adaptive_us", "iso", "careless"])
def test_what_an_update_left_alone_is_unchanged_and_never_null(captured: dict[str, Captured], name: str) -> None:
    of = captured[name]
    hidden = HIDDEN | ({"bytea", "int4multirange"} if name in ("adaptive_us", "iso") else set())
    wrong = []
    for table, type_ in TOASTED.items():
        if stops(name, type_.type):
            continue
        columns = of.columns[table]
        try:
            updated = [e.after[2] for e in of.events(table, columns) if e.operation is Operation.UPDATE and e.after]
        except ConfigError as error:
            if type_.type not in hidden:
                wrong.append(f"{type_.type}: {error}")
            continue
        if updated != [UNCHANGED] or type_.type in hidden:
            wrong.append(f"{type_.type}: {updated!r:.200}")
    assert wrong == []


@pytest.mark.parametrize("name", ["advised", "with_schema"])
def test_a_row_that_moves_under_another_key_and_goes(captured: dict[str, Captured], name: str) -> None:
    of = captured[name]
    events = list(of.events("moved", of.columns["moved"]))
    ignored = Operation.IGNORED
    assert [event.operation for event in events] == [
        *(Operation.INSERT, Operation.DELETE, ignored, Operation.INSERT, Operation.DELETE, ignored),
        Operation.TRUNCATE,
    ]
    inserted, left, _, moved, deleted, _, truncated = events
    assert left.before == deleted_key(b"1")
    assert left.successor == (b"2",)
    assert moved.former == (b"1",)
    assert moved.after == (b"2", b"1.50", UNCHANGED)
    assert deleted.before == deleted_key(b"2")
    assert (deleted.former, deleted.successor) == (None, None)
    assert (truncated.before, truncated.after) == (None, None)
    lsns = [event.lsn for event in events if event.lsn is not None]
    assert lsns == sorted(lsns)
    assert inserted.xid
    assert inserted.committed_at
    assert not inserted.snapshot
    assert inserted.sequence[1] == inserted.lsn


def test_the_whole_row_comes_under_replica_identity_full(captured: dict[str, Captured]) -> None:
    of = captured["advised"]
    modes = replace(of.modes, full_before=True)
    inserted, updated, deleted, _ = of.events("whole", of.columns["whole"], modes)
    array = "{" + ",".join([f"{n / 2:g}" for n in range(1, 3001)]) + "}"
    assert inserted.after == (b"1", b"1", array.encode(), None)
    assert updated.before == inserted.after
    assert updated.after == (b"1", b"2", array.encode(), None)
    assert deleted.before == updated.after


def deleted_key(key: bytes) -> tuple[object, ...]:
    """Without REPLICA IDENTITY FULL the event holds 0 for the number, which must not be used as its value."""
    return key, UNCHANGED, UNCHANGED


def test_values_that_depend_on_the_session_are_refused_where_nobody_vouches_for_it(
    captured: dict[str, Captured],
) -> None:
    of = captured["advised"]
    loose = replace(of.modes, pinned_session=False)
    for table, type_ in TYPES.items():
        if type_.type in ("float4", "float8", "bytea", "interval", "point", "float4[]", "bytea[]"):
            with pytest.raises(AuroraSyncError, match=r"settings of Debezium's session.*ALTER ROLE"):
                list(of.events(table, of.columns[table], loose))

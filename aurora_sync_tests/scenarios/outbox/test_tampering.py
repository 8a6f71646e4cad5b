"""Keys that somebody deletes from an outbox by hand: triggers of the outbox record it, or the certificate names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_sync.model.certificate import Level
from aurora_sync.source.outbox import NOTHING, TAMPERED
from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.outbox.test_outbox import OUTBOX, T, by_outbox, by_scan, synced, waiting
from aurora_sync_tests.scenarios.world import World

UNWATCHED = [f"DROP TRIGGER zzz_aurora_sync_{event} ON {OUTBOX}" for event in ("deleted", "updated")]
KEYS = "aurora_sync_emptied IS NULL"
TAMPERING = {
    "one key deleted": f"DELETE FROM {OUTBOX} WHERE id = '7'",
    "all keys deleted": f"DELETE FROM {OUTBOX} WHERE {KEYS}",
    "deleted by replication": f"SET session_replication_role = replica; DELETE FROM {OUTBOX} WHERE {KEYS}",
    "key changed": f"UPDATE {OUTBOX} SET id = '8' WHERE id = '7'",
    "transaction changed": f"UPDATE {OUTBOX} SET aurora_sync_xid = '3' WHERE {KEYS}; DELETE FROM {OUTBOX} WHERE {KEYS}",
    "merged away": f"MERGE INTO {OUTBOX} o USING t ON o.id = t.id::text WHEN MATCHED THEN DELETE",
    "everything deleted, its memory put back": f"CREATE TEMP TABLE m AS SELECT * FROM {OUTBOX} WHERE NOT {KEYS};"
    f" DELETE FROM {OUTBOX}; INSERT INTO {OUTBOX} SELECT * FROM m",
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_key_that_is_taken_out_by_hand_is_not_lost(world: World, tampering: str) -> None:
    if tampering == "merged away":
        need_version(world.dsn, 15, "MERGE")
    synced(world)
    world.execute("UPDATE t SET v = 'missed' WHERE id = 7", TAMPERING[tampering])
    by_scan(world, "the outbox was emptied by hand")


@pytest.mark.parametrize("tampering", ["one key deleted", "key changed"])
def test_without_those_triggers_it_is_lost_and_the_certificate_says_on_what_it_rests(
    world: World, tampering: str
) -> None:
    synced(world)
    world.execute(*UNWATCHED)
    world.sync(T)
    world.execute("UPDATE t SET v = 'missed' WHERE id = 7", TAMPERING[tampering])
    receipt = world.sync(T)
    assert receipt.method == "outbox"
    assert "deletes by others are not recorded" in receipt.certificate.rests_on["outbox"]
    with pytest.raises(AssertionError, match="missing or stale"):
        world.assert_equal(T)


def test_outbox_of_an_earlier_version_gets_the_triggers_by_apply(world: World) -> None:
    synced(world)
    world.execute(*UNWATCHED)
    world.make(T)
    by_scan(world, "its triggers were recreated or altered since the last run")
    receipt = by_outbox(world)
    assert receipt.certificate.level is Level.CERTIFIED
    assert "are not recorded" not in receipt.certificate.rests_on["outbox"]


def test_watch_that_was_off_for_a_moment_is_noticed(world: World) -> None:
    synced(world)
    world.execute(
        "UPDATE t SET v = 'missed' WHERE id = 7",
        f"ALTER TABLE {OUTBOX} DISABLE TRIGGER ALL",
        f"DELETE FROM {OUTBOX} WHERE {KEYS}",
        f"ALTER TABLE {OUTBOX} ENABLE ALWAYS TRIGGER zzz_aurora_sync_deleted",
        f"ALTER TABLE {OUTBOX} ENABLE ALWAYS TRIGGER zzz_aurora_sync_updated",
    )
    by_scan(world, "its triggers were recreated or altered since the last run")


def test_keys_that_are_in_the_warehouse_may_go(world: World) -> None:
    """A sync that was killed before it emptied the outbox leaves such keys."""
    synced(world)
    world.execute("UPDATE t SET v = 'once' WHERE id = 7")
    left = world.execute(f"SELECT * FROM {OUTBOX} WHERE {KEYS}")
    by_outbox(world)
    ((key, xid, _),) = left
    world.execute(
        f"INSERT INTO {OUTBOX} (id, aurora_sync_xid) VALUES ('{key}', '{xid}')", f"DELETE FROM {OUTBOX} WHERE id = '7'"
    )
    world.execute("UPDATE t SET v = 'twice' WHERE id = 7")
    by_outbox(world)


def test_key_that_is_taken_out_while_a_run_has_read_it_costs_a_scan_and_no_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run removes only entries that its own snapshot saw, and not a later note."""
    synced(world)
    world.execute("UPDATE t SET v = 'read' WHERE id = 7")
    acknowledge = type(world.places.source).acknowledge

    def after_tampering(*arguments: object) -> None:
        world.execute("UPDATE t SET v = 'missed' WHERE id = 8", f"DELETE FROM {OUTBOX} WHERE {KEYS}")
        acknowledge(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(world.places.source), "acknowledge", after_tampering)
        assert world.sync(T).method == "outbox"
    by_scan(world, "the outbox was emptied by hand")
    assert waiting(world) == 0


def test_every_target_of_an_outbox_scans_once(world: World, tmp_path: Path) -> None:
    other = World(world.dsn, f"{world.stage_url}/other", tmp_path / "other.duckdb")
    synced(world)
    other.sync(T)
    world.execute("UPDATE t SET v = 'missed' WHERE id = 7", TAMPERING["one key deleted"])
    for each in (world, other):
        assert each.sync(T).method != "outbox"
        each.assert_equal(T)
    ((remembered,),) = world.execute(f"SELECT aurora_sync_emptied::text FROM {OUTBOX} WHERE NOT {KEYS}")
    assert remembered not in (NOTHING, TAMPERED)

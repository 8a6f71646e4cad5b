"""Messages of one table in several partitions, read by runs that end anywhere in each partition."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aurora_sync.source.debezium.feed import TopicFeed
from aurora_sync.source.debezium.partitions import Order, murmur2
from aurora_sync.source.debezium.topic import Message
from aurora_sync_tests.source.debezium.test_feed import COLUMNS, MODES, START, Table, applied, feed, histories, message


def truth(history: list[list[Message]], lsn: int) -> Table:
    """Return the rows as of an LSN, computed from one partition."""
    taken = feed()
    for each in [each for change in history for each in change if lsn_of(change) <= lsn]:
        taken.take(each)
    return applied(START, taken)


def lsn_of(change: list[Message]) -> int:
    return change[0].offset


@settings(max_examples=600, suppress_health_check=[HealthCheck.large_base_example])
@given(histories(), st.data())
def test_rows_are_right_wherever_keys_are_and_runs_end(history: list[list[Message]], data: st.DataObject) -> None:
    """Keys are in the partition of their hash or anywhere; the number of partitions is raised at some time."""
    anywhere, few, more = data.draw(st.booleans()), data.draw(st.integers(1, 3)), data.draw(st.integers(3, 4))
    raised_at = data.draw(st.sampled_from([0, 14, 99]))
    log: list[list[tuple[int, Message]]] = [[] for _ in range(more)]
    for change in history:
        count = few if lsn_of(change) < raised_at else more
        where = 0
        for each in change:
            if each.value is not None:  # a tombstone is in the partition of its delete
                fixed = each.key is not None and not anywhere
                where = murmur2(each.key or b"") % count if fixed else data.draw(st.integers(0, count - 1))
            found = replace(each, partition=where, offset=len(log[where]))
            log[where].append((lsn_of(change), found))
    table, scanned, order, before = START, 0, Order(), 0
    offsets = [0] * more
    runs = data.draw(st.integers(1, 3))
    for run in range(runs):
        ends = [len(messages) for messages in log]
        if run < runs - 1:
            ends = [data.draw(st.integers(at, end)) for at, end in zip(offsets, ends, strict=True)]
        seen = [0, *(lsn for messages, end in zip(log, ends, strict=True) for lsn, _ in messages[:end])]
        count = more if any(lsn >= raised_at for lsn in seen) else few
        covered = scanned
        taken = TopicFeed("public", "t", COLUMNS, ["id"], MODES, lambda _p, _o, lsn, _x, upto=covered: lsn <= upto)  # type: ignore[misc]
        order = order.of(count, sum(end > 0 for end in ends), before)
        taken.begin(order)
        for messages, start, end in zip(log, offsets, ends, strict=True):
            if start:
                taken.saw(messages[start - 1][1])
            for _, each in messages[start:end]:
                if not taken.rescan:
                    taken.take(each)
        try:
            table = truth(history, max(seen)) if taken.rescan else applied(table, taken)
            lost = bool(taken.rescan)
        except KeyError:  # a change keeps values of a row that the target lacks: the run reads the table
            table, lost = truth(history, max(seen)), True
        if lost:
            scanned, order = max(seen), Order()
        offsets, before = ends, count
    assert table == truth(history, 99)


def test_the_order_of_transactions_counts_and_not_the_lsn_alone() -> None:
    """A long transaction has old LSNs, but its changes follow those of transactions that committed earlier."""
    order = Order(2, 2)
    order.took(0, (100, 60), stray=True)
    assert not order.is_late(1, (110, 10), stray=True)
    assert order.is_late(1, (90, 70), stray=False)
    assert not order.is_late(0, (90, 70), stray=True)


def test_a_snapshot_message_is_no_change() -> None:
    taken = feed()
    taken.take(message("r", 5, after=(5, "copied", None), snapshot="true"))
    assert taken.order.newest == {}

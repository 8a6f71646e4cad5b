"""Every message of the protocol, byte by byte: the values that are read, and the errors of invalid messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_sync.errors import DefectError
from aurora_sync.source.logical import pgoutput, slot
from aurora_sync.source.logical.pgoutput import UNCHANGED, Attribute, Begin, Commit, Relation, Value
from aurora_sync_tests.source.debezium import messages

OTHER = messages.OID + 1


def test_a_begin_has_the_place_the_time_and_the_transaction_of_its_commit() -> None:
    message = b"B" + bytes.fromhex("00000001 00000002  0000000000000001  ffffffff")
    begun = pgoutput.begin(message)
    assert begun == Begin(2**32 + 2, 1, 2**32 - 1)
    assert begun.committed_at == datetime(2000, 1, 1, 0, 0, 0, 1, UTC)
    before = pgoutput.begin(messages.begin(microseconds=-1_000_000))
    assert before.committed_at == datetime(2000, 1, 1, tzinfo=UTC) - timedelta(seconds=1)


def test_a_commit_has_where_it_starts_and_ends() -> None:
    message = b"C" + bytes.fromhex("00  0000000000000010  0000000000000040  0000000000000001")
    assert pgoutput.commit(message) == Commit(0x10, 0x40)


def test_a_relation_has_its_columns_with_type_modifier_and_identity() -> None:
    message = (
        b"R\x00\x00\x40\x10legacy\0caf\xc3\xa9\0d\x00\x02"
        b"\x01id\0\x00\x00\x00\x17\xff\xff\xff\xff"
        b"\x00pr\xc3\xa9nom\0\x00\x00\x04\x13\x00\x00\x00\x0e"
    )
    id_, name = Attribute("id", 23, -1, True), Attribute("prénom", 1043, 14, False)
    assert pgoutput.relation(message) == Relation(16_400, "d", (id_, name))


def test_a_relation_may_have_no_columns() -> None:
    assert pgoutput.relation(messages.relation(identity="n")) == Relation(messages.OID, "n", ())


def test_a_relation_of_the_system_catalogue_comes_without_schema() -> None:
    assert pgoutput.relation(b"R\x00\x00\x00\x01\0pg_class\0n\x00\x00") == Relation(1, "n", ())


def test_a_row_has_texts_nulls_and_what_an_update_left_as_it_was() -> None:
    message = b"I\x00\x00\x40\x10N\x00\x04t\x00\x00\x00\x02ab" + b"n" + b"u" + b"t\x00\x00\x00\x00"
    assert pgoutput.row(message, 6) == ([b"ab", None, UNCHANGED, b""], len(message))


VALUES = st.none() | st.just(UNCHANGED) | st.binary(max_size=300)


@given(st.lists(VALUES, max_size=20), st.lists(VALUES, min_size=1, max_size=20))
def test_any_rows_are_read_as_they_were_written(before: list[Value], after: list[Value]) -> None:
    message = messages.update(*after, old=before)
    at = 5
    if before:
        read, at = pgoutput.row(message, 6)
        assert read == before
    assert message[at : at + 1] == b"N"
    assert pgoutput.row(message, at + 1) == (after, len(message))


def test_a_value_may_be_longer_than_two_bytes_can_say() -> None:
    long = b"x" * 70_000
    assert pgoutput.row(messages.insert(long, b"y"), 6)[0] == [long, b"y"]


def test_a_binary_value_is_refused() -> None:
    message = b"I\x00\x00\x40\x10N\x00\x01b\x00\x00\x00\x01\x07"
    with pytest.raises(DefectError, match="kind 'I' and 14 bytes cannot be read: it has a value of kind 'b'"):
        pgoutput.row(message, 6)


@pytest.mark.parametrize("options", [{}, {"cascade": True}, {"restart_identity": True, "cascade": True}])
def test_a_truncate_names_all_its_tables_whatever_its_options(options: dict[str, bool]) -> None:
    message = messages.truncate(1, 2**31, **options)
    assert pgoutput.truncate(message) == (b"\0\0\0\x01", b"\x80\0\0\0")


READERS: list[tuple[bytes, Callable[[bytes], object]]] = [
    (messages.begin(), pgoutput.begin),
    (messages.commit(), pgoutput.commit),
    (messages.relation(("id", 23, -1, True), ("v", 25, -1, False)), pgoutput.relation),
    (messages.truncate(1, 2), pgoutput.truncate),
    (messages.insert(b"abc", None, b""), lambda data: pgoutput.row(data, 6)),
    (messages.update(None, UNCHANGED, b"abc"), lambda data: pgoutput.row(data, 6)),
    (messages.delete(old=(b"1", None)), lambda data: pgoutput.row(data, 6)),
]


@pytest.mark.parametrize(("message", "read"), READERS, ids=[chr(message[0]) for message, _ in READERS])
def test_a_message_that_is_cut_short_anywhere_is_refused(message: bytes, read: Callable[[bytes], object]) -> None:
    read(message)
    for size in range(1, len(message)):
        with pytest.raises(DefectError, match=f"a message of kind '{chr(message[0])}' and {size} bytes"):
            read(message[:size])


@dataclass
class Recorder:
    """A feed that records the calls of its methods."""

    unwanted: tuple[int, ...] = ()  # transaction ids
    alone: tuple[int, ...] = ()  # transaction ids that need a new session
    calls: list[str] = field(default_factory=list)

    def needs_new_session(self, began: Begin) -> bool:
        return began.xid in self.alone

    def begins(self, began: Begin) -> bool:
        return began.xid not in self.unwanted

    def relation(self, relation: Relation) -> None:
        self.calls.append("relation")

    def insert(self, data: bytes) -> None:
        self.calls.append(f"insert {data[1:5].hex()}")

    def update(self, data: bytes) -> None:
        self.calls.append("update")

    def delete(self, data: bytes) -> None:
        self.calls.append("delete")

    def truncate(self) -> None:
        self.calls.append("truncate")


@dataclass(frozen=True)
class Sent:
    payload: bytes


@dataclass
class Scripted:
    """A replication cursor that returns these messages, and then is at the end of the log."""

    messages: Iterator[bytes]
    wal_end: int

    def read_message(self) -> Sent | None:
        message = next(self.messages, None)
        return None if message is None else Sent(message)


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., slot.Drained]:
    def draining(
        script: list[bytes], feeds: dict[int, Recorder], target: int = 5000, among: frozenset[int] = frozenset()
    ) -> slot.Drained:
        @contextmanager
        def replication(*_: str) -> Iterator[Scripted]:
            yield Scripted(iter(script), target)

        monkeypatch.setattr(slot, "_replication", replication)
        return slot.drain("", "s", "p", target, feeds, among=among)

    return draining


def test_changes_reach_the_feed_of_their_table_and_no_other(drain: Callable[..., slot.Drained]) -> None:
    feed, other = Recorder(), Recorder()
    script = [
        messages.begin(xid=7, microseconds=1_000_000),
        messages.type_(70_000, "mood"),
        messages.origin("elsewhere"),
        messages.relation(("id", 23, -1, True)),
        messages.insert(b"1"),
        messages.logical_message("note", b"to nobody", transactional=True),
        messages.insert(b"2", oid=OTHER),
        messages.insert(b"3", oid=OTHER + 1),  # a table without a feed
        messages.update(b"1"),
        messages.delete(key=[b"1"]),
        messages.truncate(OTHER + 1, OTHER),
        messages.commit(1000, 1048),
        messages.logical_message("note", b"outside of transactions", transactional=False),
    ]
    drained = drain(script, {messages.OID: feed, OTHER: other}, among=frozenset([7, 8]))
    assert feed.calls == ["relation", f"insert {messages.OID:08x}", "update", "delete"]
    assert other.calls == [f"insert {OTHER:08x}", "truncate"]
    assert drained == slot.Drained(5000, {7: 1000}, datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC), 1, len(script))


def test_each_table_skips_the_transactions_that_its_target_has(drain: Callable[..., slot.Drained]) -> None:
    ahead, behind = Recorder(unwanted=(7,)), Recorder()
    script = [
        messages.begin(xid=7, microseconds=1_000_000),
        messages.relation(("id", 23, -1, True)),  # sent only once per stream, so it must not be skipped
        messages.insert(b"1"),
        messages.truncate(messages.OID, OTHER),
        messages.commit(1000, 1048),
        messages.begin(1100, xid=8),
        messages.update(b"1"),
        messages.commit(1100, 1148),
    ]
    drain(script, {messages.OID: ahead, OTHER: behind})
    assert (ahead.calls, behind.calls) == (["relation", "update"], ["truncate"])


def test_a_commit_behind_the_target_waits_for_the_next_run(drain: Callable[..., slot.Drained]) -> None:
    feed = Recorder()
    script = [
        messages.begin(),
        messages.insert(b"1"),
        messages.commit(1000, 1048),
        messages.begin(),
        messages.insert(b"2"),
    ]
    drained = drain(script, {messages.OID: feed}, target=1048)
    assert (drained.reached, drained.transactions, len(feed.calls)) == (1048, 1, 1)


def test_transaction_that_needs_a_new_session_is_read_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that begins with the transaction is new already."""
    log = {
        place: [messages.begin(place, xid=xid), messages.insert(b"1"), messages.commit(place, place + 48)]
        for place, xid in ((1000, 7), (1100, 8), (1200, 9))
    }
    starts: list[int] = []

    @contextmanager
    def replication(dsn: str, slot: str, publication: str, start: int = 0) -> Iterator[Scripted]:
        starts.append(start)
        yield Scripted((message for place, sent in log.items() if place >= start for message in sent), 5000)

    monkeypatch.setattr(slot, "_replication", replication)
    feed = Recorder(alone=(7, 9))
    drained = slot.drain("", "s", "p", 5000, {messages.OID: feed}, among=frozenset([7, 8, 9]))
    assert starts == [0, 1200]
    assert (len(feed.calls), drained.transactions, drained.commits) == (3, 3, {7: 1000, 8: 1100, 9: 1200})


@pytest.mark.parametrize("kind", list("SEcAbPKrpX"))
def test_a_message_that_version_1_does_not_have_is_refused(drain: Callable[..., slot.Drained], kind: str) -> None:
    """Later versions of the protocol send streamed and prepared transactions. Skipping these would lose changes."""
    with pytest.raises(DefectError, match=f"s: a message of kind '{kind}' in a stream of protocol version 1"):
        drain([messages.begin(), kind.encode() + bytes(40)], {messages.OID: Recorder()})

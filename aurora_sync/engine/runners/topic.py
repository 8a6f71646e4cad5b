"""One increment of one table from its Kafka topic, top to bottom.

::

    look at the table as a sync does ─► scan it when the topic cannot serve (engine/sync.py)
        ─► read the topic from the saved offsets to its end, net changes ─► S3, a manifest
        ─► one warehouse transaction {changes, sync log row with the new offsets}

The offsets are kept only in the sync log: the reader joins no consumer group and commits no offset to Kafka, so a
rebalance, a replay or a second reader changes nothing. After a kill, the next run reads the same messages again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from aurora_sync.config.connector import Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import member as members_of
from aurora_sync.engine.runners.member import ChangeMember, apply_changes
from aurora_sync.engine.runners.slot import problems_of_slots
from aurora_sync.engine.runners.stream import Scan, StreamRunner
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.errors import AuroraSyncError, Kind, SourceError
from aurora_sync.model.fences import SlotFence
from aurora_sync.model.receipt import Consumed, Receipt, Slot
from aurora_sync.model.watermark import Token
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.debezium.feed import TopicFeed
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.partitions import Order
from aurora_sync.source.debezium.role_settings import has_settings
from aurora_sync.source.debezium.topic import Gap, Topic
from aurora_sync.source.logical import publication, slot
from aurora_sync.strategies.debezium import TopicPosition
from aurora_sync.strategies.debezium import topic as topic_of
from aurora_sync.strategies.streaming import Seen

# Messages between two checks of the memory that pending changes use.
_EVERY_MESSAGES = 1000


@dataclass(kw_only=True)
class _TopicMember(ChangeMember):
    position: TopicPosition
    feed: TopicFeed


class TopicRunner(StreamRunner[_TopicMember]):
    def member_or_scan(self, found: Look, places: Places) -> _TopicMember | str:
        position, why = self.position(found)
        if position is None:
            return why
        assert isinstance(position, TopicPosition)
        config, plan = found.config, found.plan
        found.close_snapshot()
        modes = _modes(config.connector or Connector(), places, plan.at.token)
        feed = TopicFeed(
            config.schema_, config.table_name, plan.columns, plan.key, modes, position.has, places.source.longest_value
        )
        return _TopicMember(**vars(found), position=position, changes=feed.changes, feed=feed)

    def restrict_to_snapshot(self, member: _TopicMember) -> None:
        """Read each partition only up to the first change of a transaction that the snapshot does not see."""
        at = member.plan.at
        member.feed.sees = Seen(at.snapshot.xmax, at.seen(SlotFence).in_progress).holds

    def apply(
        self, members: Sequence[_TopicMember], places: Places, *, may_forget: bool
    ) -> tuple[list[Receipt], list[Scan]]:
        """Apply the topics. Kafka removes messages by its own retention, so ``may_forget`` is not used."""
        receipts: list[Receipt] = []
        scans: list[Scan] = []
        for member in members:
            found = _read(member, places)
            if isinstance(found, str):
                scans.append((member.config, found))
            else:
                receipts.append(found)
        return receipts, scans

    def marks(self, tables: Sequence[TableConfig], source: Source) -> dict[str, str]:
        """Return the end offsets of each table's topic: the source's own counters are ahead of them."""
        topics = {table.qualified_name: topic_of(table) for table in tables}
        ends = source.kafka.ends(list(topics.values())) if topics else {}
        return {name: f"topic {sorted(ends[topic].items())}" for name, topic in topics.items()}

    def problems(self, tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
        yield from problems_of_slots(tables, source)
        yield from _problems_of_topics([topic_of(table) for table in tables], source)


def _problems_of_topics(names: list[str], source: Source) -> Iterator[str]:
    """Check all topics over one connection, and each by itself when one of them is refused."""
    if not names:
        return
    try:
        source.kafka.ends(names)
    except AuroraSyncError as error:
        if len(names) == 1 or error.kind.retry:
            yield from str(error).split("\n")
            return
        for name in names:
            yield from _problems_of_topics([name], source)


def _modes(connector: Connector, places: Places, token: Token) -> Modes:
    with connect(places.source.dsn) as connection:
        leaves = publication.leaves(connection, [token.table_oid])[token.table_oid]
        return Modes.of(
            connector,
            pinned_session=has_settings(connection, connector.role),
            infinite_intervals=token.major >= 17,
            full_before=all(leaf.identity == "f" for leaf in leaves),
        )


def _read(table: _TopicMember, places: Places) -> Receipt | str:
    """Apply the topic and return the receipt; or return why the table must be scanned, with nothing of the topic
    applied."""
    watch = Stopwatch()
    position, feed, warnings = table.position, table.feed, tuple[str, ...]()
    with ExitStack() as attempts:
        with watch.phase("export"):
            with places.source.kafka.topic(position.topic) as topic:
                feed.begin(_order(position, topic))
                for number, message in enumerate(topic.read(topic.one_back(position.offsets))):
                    if message.offset < position.offsets.get(message.partition, 0):
                        feed.saw(message)
                        continue
                    feed.take(message)
                    if feed.rescan:
                        return feed.rescan
                    if number % _EVERY_MESSAGES == 0 and feed.changes.bytes > members_of.PENDING_BYTES:
                        table.write(places, attempts)
                        feed.written()
                if why := feed.behind or _gone(position, topic.gaps, places, relies=feed.relies):
                    return why
                if feed.overtaken:
                    raise SourceError(
                        "the snapshot shows a transaction, but not an earlier one of the log",
                        where=table.config.qualified_name,
                        hint="run `aurora-sync verify` again",
                        kind=Kind.TRANSIENT,
                    )
                reached = topic.reached | feed.stopped
                behind = topic.behind(reached)
            if not topic.extents:
                warnings = (
                    f"topic {position.topic} does not exist yet; check topic_prefix and the state of the connector",
                )
            moved = [table] if reached != position.offsets else []
            if moved:
                table.close(places, attempts)
        table.reach(position.at(reached, feed.order.newest, feed.order.strays))
        if moved:
            table.commit(places)
        applied = apply_changes(moved, places)
    found, more = _slot(table, places)
    receipt = table.receipt(applied.get(table.load_id), places, watch, warnings + more, feed.oldest)
    consumed = Consumed(position.topic, sum(reached.values()) - sum(position.offsets.values()), behind)
    return dataclasses.replace(receipt, slot=found, consumed=consumed)


def _gone(position: TopicPosition, gaps: Sequence[Gap], places: Places, *, relies: bool) -> str:
    """Return why the table must be scanned: messages are gone that the target does not have. Empty when it has them
    all.

    Compaction removes messages. A transaction also uses offsets without a message: one for its marker, and those of
    aborted messages. A topic that is not compacted has gaps of transactions only. When the cleanup policy is not
    visible, a gap of one offset counts as a marker: compaction keeps the newest message of a row, which is complete
    unless it ``relies`` on an earlier one. A compacted delete removes two offsets, its own and its tombstone's.
    """
    gone = [
        dataclasses.replace(gap, first=first)
        for gap in gaps
        if (first := max(gap.first, position.offsets.get(gap.partition, 0))) < gap.next
        and gap.next > position.ends.get(gap.partition, 0)
    ]
    if not gone:
        return ""
    policy = places.source.kafka.cleanup_policies([position.topic]).get(position.topic)
    if policy is None:
        gone = [gap for gap in gone if relies or gap.next - gap.first > 1]
    if not gone or (policy and "compact" not in policy):
        return ""
    found = f"cleanup.policy is {policy}" if policy else "this user may not read its cleanup.policy"
    return (
        f"messages of partition {gone[0].partition} were deleted from offset {gone[0].first:,} on, and {found}: set"
        f" cleanup.policy=delete on topic {position.topic}"
    )


def _order(position: TopicPosition, topic: Topic) -> Order:
    """Return the order of the changes in the topic as it is now."""
    used = sum(extent.high > 0 for extent in topic.extents.values())
    return Order(newest=position.newest, strays=position.strays).of(len(topic.extents), used, len(position.offsets))


def _slot(table: _TopicMember, places: Places) -> tuple[Slot | None, tuple[str, ...]]:
    """Return the state of the connector's slot, and warnings. The changes are already applied, so a failure is a
    warning."""
    name = table.config.slot_name
    try:
        with connect(places.source.dsn) as connection:
            return slot.look(connection, name), ()
    except SourceError as error:
        return None, (f"the state of replication slot {name} could not be read: {error}",)

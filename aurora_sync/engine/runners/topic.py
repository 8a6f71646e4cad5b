"""One table from its topic of Kafka, one increment, top to bottom.

::

    look at the table as a sync does ─► scan it where the topic cannot serve (engine/sync.py)
        ─► read the topic from our offsets to its end, net changes ─► S3, a manifest
        ─► one warehouse transaction {changes, sync log row with the new offsets}

The offsets stand in the sync log and are those of nobody else: no group is joined, no offset is committed to Kafka, so
that a rebalance, a replay or a second reader changes nothing. Killed anywhere, the next run reads the same messages
again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from aurora_sync.config.tables import Connector, TableConfig
from aurora_sync.engine import hints
from aurora_sync.engine import member as streamed
from aurora_sync.engine.member import Streamed, apply_streamed, compared, follow, where_to_stream_from
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_increment
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import not_compared, state_as_found
from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.receipt import Consumed, Receipt, Slot
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Token
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.debezium.feed import TopicFeed
from aurora_sync.source.debezium.partitions import Order
from aurora_sync.source.debezium.role_settings import has_settings
from aurora_sync.source.debezium.topic import Gap, Topic
from aurora_sync.source.debezium.values import Modes
from aurora_sync.source.logical import publication, slot
from aurora_sync.strategies.debezium import TopicPosition
from aurora_sync.strategies.streaming import Seen

# Between two looks at how much is held.
_EVERY_MESSAGES = 1000


@dataclass(kw_only=True)
class _Table(Streamed):
    position: TopicPosition
    feed: TopicFeed


def run(
    config: TableConfig,
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the target up to what its topic had when this call began. Raises as
    :func:`aurora_sync.engine.sync.run` does, and
    ConfigError where an event cannot be read exactly."""
    follow(config, places, on_receipt, _look, _read, allow_deletes=allow_deletes, on_progress=on_progress)


def verify(config: TableConfig, places: Places) -> Receipt:
    """Apply what the topic has of the transactions that one snapshot of the source sees, and nothing else, and compare
    the target with that snapshot. A partition is read up to the first change of another transaction.

    Raises NotComparedError where a run would scan the table instead.
    """
    state = state_as_found(config, places)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions(verify=True))
        table = _table(config, places, state, None, plan, reading.table)
        if isinstance(table, str):
            raise not_compared(config, table)
        assert plan.at.stream
        table.feed.sees = Seen(plan.at.snapshot.xmax, plan.at.stream.in_progress).holds
        receipt = _read(table, places)
        if isinstance(receipt, str):
            raise not_compared(config, receipt)
        return compared(table, places, reading, receipt)


def _look(config: TableConfig, places: Places, trust_hint: bool) -> _Table | str:
    """The table as its topic finds it, or why it must be scanned; that never by a hint alone."""
    state, hinted = hints.read_state(config, places, trust_hint=trust_hint)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions())
    found = _table(config, places, state, hinted, plan, reading.table)
    return _look(config, places, False) if hinted and isinstance(found, str) else found


def _table(
    config: TableConfig, places: Places, state: State, hinted: datetime | None, plan: Plan, source: SourceTable
) -> _Table | str:
    position, why = where_to_stream_from(config, source, plan, state)
    if position is None:
        return why
    assert isinstance(position, TopicPosition)
    modes = _modes(config.connector or Connector(), places, plan.at.token)
    feed = TopicFeed(config.schema_, config.table_name, plan.columns, plan.key, modes, position.has)
    return _Table(
        config=config,
        state=state,
        hinted=hinted,
        plan=plan,
        as_found=plan.verifies,
        position=position,
        changes=feed.changes,
        feed=feed,
    )


def _modes(connector: Connector, places: Places, token: Token) -> Modes:
    with connect(places.source.dsn) as connection:
        leaves = publication.leaves(connection, [token.table_oid])[token.table_oid]
        return Modes.of(
            connector,
            pinned_session=has_settings(connection, connector.role),
            infinite_intervals=token.major >= 17,
            full_before=all(leaf.identity == "f" for leaf in leaves),
        )


def _read(table: _Table, places: Places) -> Receipt | str:
    """Apply the topic, or say why the table must be scanned instead: then nothing of the topic is applied."""
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
                    if number % _EVERY_MESSAGES == 0 and feed.changes.bytes > streamed.PENDING_BYTES:
                        table.write(places, attempts)
                        feed.written()
                if why := feed.behind or _gone(position, topic.gaps, places, relies=feed.relies):
                    return why
                if feed.overtaken:
                    raise SourceError(
                        "a transaction that ended in the log before another was seen after it",
                        where=table.config.qualified_name,
                        hint="verify again",
                        kind=Kind.TRANSIENT,
                    )
                reached = topic.reached | feed.stopped
                behind = topic.behind(reached)
            if not topic.extents:
                warnings = (f"there is no topic {position.topic} yet; check topic_prefix, and the connector's state",)
            moved = [table] if reached != position.offsets else []
            if moved:
                table.close(places, attempts)
        table.reach(position.at(reached, feed.order.newest, feed.order.strays))
        if moved:
            table.commit(places)
        applied = apply_streamed(moved, places, f"aurora_sync {table.config.qualified_name} {table.load_id}")
    found, more = _slot(table, places)
    receipt = table.receipt(applied.get(table.load_id), places, watch, warnings + more, feed.oldest)
    consumed = Consumed(position.topic, sum(reached.values()) - sum(position.offsets.values()), behind)
    return dataclasses.replace(receipt, slot=found, consumed=consumed)


def _gone(position: TopicPosition, gaps: Sequence[Gap], places: Places, *, relies: bool) -> str:
    """Why the table must be scanned, where messages are gone that the target does not have; empty where it has all.

    Compaction removes messages, and so do transactions: each leaves a mark without a message, and nothing of what was
    aborted. A topic that is not compacted has marks only. Where its policy is not shown, single offsets are taken for
    marks: compaction keeps the newest message of a row, which says all of it unless it ``relies`` on one before. Of a
    delete with its tombstone, two are gone.
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
    found = f"cleanup.policy is {policy}" if policy else "its cleanup.policy is not shown to this user"
    return (
        f"messages of partition {gone[0].partition} are gone, from offset {gone[0].first:,} on, and {found}: set"
        f" cleanup.policy=delete on topic {position.topic}"
    )


def _order(position: TopicPosition, topic: Topic) -> Order:
    """In which changes come from the topic as it is now."""
    used = sum(extent.high > 0 for extent in topic.extents.values())
    return Order(newest=position.newest, strays=position.strays).of(len(topic.extents), used, len(position.offsets))


def _slot(table: _Table, places: Places) -> tuple[Slot | None, tuple[str, ...]]:
    """The connector's. All is applied whatever becomes of the look: a failure is a warning."""
    name = table.config.slot_name
    try:
        with connect(places.source.dsn) as connection:
            return slot.look(connection, name), ()
    except SourceError as error:
        return None, (f"replication slot {name} was not looked at: {error}",)

"""Reads a Kafka topic from given offsets up to its end as of the opening.

Neither group membership nor committed offsets are used: only the warehouse's log knows what was applied, and it stores
the offsets. Of transactional producers only committed messages are read, and the end is the last stable offset.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aurora_sync.errors import AuroraSyncError, ConfigError, GuardError, Kind, SourceError

# Time limit of a request, in seconds; a broker that has failed over answers within it.
_TIMEOUT = 30.0
# Seconds without a message and without the partition's end after which the run fails.
_SILENCE = 60.0
# Size of the queue of messages to be read, in kilobytes; the default is 64 MB for each partition.
_QUEUE_KB = "16384"
_REFUSED = {
    "_AUTHENTICATION": "check sasl.mechanism, sasl.username and sasl.password",
    "SASL_AUTHENTICATION_FAILED": "check sasl.mechanism, sasl.username and sasl.password",
    "_SSL": "check security.protocol and the certificates",
    "TOPIC_AUTHORIZATION_FAILED": "grant this user READ and DESCRIBE on the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "grant this user DESCRIBE on the cluster",
    "_INVALID_ARG": "check the settings of the consumer",
}
_LOST = "a broker stopped, is failing over or cannot be reached; check bootstrap.servers, or run again"
_RESEED = "run `aurora-sync sync --full` for the table: it scans the table and continues at the present offsets"


@dataclass(frozen=True)
class Message:
    """A message; ``value`` is None for a tombstone."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: datetime | None


@dataclass(frozen=True)
class Extent:
    """Offsets of a partition: the first that still exists, and the next that will be written."""

    low: int
    high: int


@dataclass(frozen=True)
class Gap:
    """Offsets of a partition without a message, from ``first`` up to but not including ``next``."""

    partition: int
    first: int
    next: int


class Topic:
    """A topic as of its opening by :func:`open_topic`."""

    def __init__(self, consumer: Any, name: str, where: str, errors: list[Any]) -> None:
        self._consumer = consumer
        self._name = name
        self._where = where
        self._errors = errors
        # Empty if the topic does not exist, because nothing was written yet.
        self.extents = {partition: self._extent(partition) for partition in self._partitions()}
        self._reached: dict[int, int] = {}
        self.gaps: list[Gap] = []  # of the last read(), as far as it went

    def start(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return the offsets to read from, by partition: the stored offsets, and 0 for new partitions.

        Raises GuardError if messages after the stored offset were deleted, or if the offsets are of another topic.
        """
        if missing := sorted(offsets.keys() - self.extents.keys()):
            raise self._recreated(f"partition {missing[0]} does not exist any more")
        for partition, extent in self.extents.items():
            offset = offsets.get(partition, 0)
            if offset < extent.low:
                raise GuardError(
                    f"messages {offset:,} to {extent.low - 1:,} of partition {partition} were deleted by retention"
                    " before they were read",
                    where=self._where,
                    hint=f"{_RESEED}; raise retention.ms of the topic above the longest pause between two syncs",
                )
            if offset > extent.high:
                raise self._recreated(
                    f"partition {partition} was read up to offset {offset:,}, but now ends at {extent.high:,}"
                )
        return {partition: offsets.get(partition, 0) for partition in self.extents}

    def behind(self, offsets: Mapping[int, int]) -> int:
        """Count the offsets from those given to the present end: the largest possible number of messages."""
        ends = {partition: self._extent(partition).high for partition in self.extents}
        return sum(end - offsets.get(partition, 0) for partition, end in ends.items())

    def one_back(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return the offsets to read from if the previous message is to be read too, in partitions with new messages.
        Raises GuardError as :meth:`start`."""
        return {
            partition: max(extent.low, offset - 1) if offset < extent.high else offset
            for partition, offset in self.start(offsets).items()
            for extent in [self.extents[partition]]
        }

    def read(self, offsets: Mapping[int, int]) -> Iterator[Message]:
        """Yield the messages from these offsets to the end, one partition after another, each in its order.

        Memory grows with the number of gaps, not with the number of messages. Raises GuardError as :meth:`start`, and
        SourceError if brokers fail.
        """
        self._reached, self.gaps = {}, []
        for partition, offset in sorted(self.start(offsets).items()):
            if offset < self.extents[partition].high:
                yield from self._read(partition, offset)
            else:
                self._reached[partition] = offset

    @property
    def reached(self) -> dict[int, int]:
        """Offsets from which to read next, for each partition that :meth:`read` has finished."""
        return dict(self._reached)

    def _read(self, partition: int, offset: int) -> Iterator[Message]:
        from confluent_kafka import KafkaError, TopicPartition

        end, last_message = self.extents[partition].high, time.monotonic()
        self._consumer.assign([TopicPartition(self._name, partition, offset)])
        try:
            while True:
                message = self._consumer.poll(1.0)
                if message is None:
                    if time.monotonic() - last_message > _SILENCE:
                        raise self._silent(partition)
                    continue
                last_message = time.monotonic()
                error = message.error()
                if error and error.code() == KafkaError._PARTITION_EOF:
                    # Later messages, if any, are of open or aborted transactions.
                    self._reached[partition] = message.offset()
                    self._skipped(partition, offset, message.offset())
                    return
                if error and error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    raise GuardError(
                        f"messages of partition {partition} were deleted by retention while they were read",
                        where=self._where,
                        hint=_RESEED,
                    )
                if error:
                    raise translate(error, where=self._where)
                self._skipped(partition, offset, min(message.offset(), end))
                offset = message.offset() + 1
                if message.offset() < end:
                    yield _read_only(message)
                if message.offset() >= end - 1:
                    self._reached[partition] = end
                    return
        finally:
            self._consumer.unassign()

    def _skipped(self, partition: int, expected: int, found: int) -> None:
        if found > expected:
            self.gaps.append(Gap(partition, expected, found))

    def _partitions(self) -> list[int]:
        metadata = self._asked(lambda: self._consumer.list_topics(self._name, timeout=_TIMEOUT))
        topic = metadata.topics[self._name]
        if topic.error and topic.error.name() in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"):
            return []
        if topic.error:
            raise translate(topic.error, where=self._where)
        return sorted(topic.partitions)

    def _extent(self, partition: int) -> Extent:
        from confluent_kafka import TopicPartition

        place = TopicPartition(self._name, partition)
        found = self._asked(lambda: self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT, cached=False))
        if found is None:
            raise self._silent(partition)
        return Extent(*found)

    def _asked(self, request: Any) -> Any:
        from confluent_kafka import KafkaException

        try:
            return request()
        except KafkaException as exception:
            # A failed login is reported to the callback only; the request itself times out.
            refused = [error for error in self._errors if error.name() in _REFUSED]
            raise translate(refused[-1] if refused else exception.args[0], where=self._where) from exception

    def _silent(self, partition: int) -> SourceError:
        reported = f": {self._errors[-1].str()}" if self._errors else ""
        return SourceError(
            f"no message of partition {partition} arrived within {_SILENCE:.0f} seconds{reported}",
            where=self._where,
            hint=_LOST,
            kind=Kind.TRANSIENT,
        )

    def _recreated(self, what: str) -> GuardError:
        return GuardError(f"{what}: the topic was recreated, or is another topic", where=self._where, hint=_RESEED)


@contextmanager
def open_topic(settings: Mapping[str, str], name: str) -> Iterator[Topic]:
    """Open a topic, and look up its present end. ``settings`` are librdkafka's, ``bootstrap.servers`` at least.

    Raises ConfigError if confluent-kafka is not installed, SourceError if the brokers refuse or fail.
    """
    with open_topics(settings, [name]) as (topic,):
        yield topic


@contextmanager
def open_topics(settings: Mapping[str, str], names: Sequence[str]) -> Iterator[list[Topic]]:
    """Open several topics with one consumer, as :func:`open_topic`. Read them one at a time."""
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError as error:
        raise ConfigError(
            "reading Kafka needs the package confluent-kafka", hint="install aurora-sync[debezium]"
        ) from error
    servers, errors = settings.get("bootstrap.servers", "?"), list[Any]()
    ours = {
        "group.id": "aurora_sync",  # librdkafka requires one; the group is never joined
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "enable.partition.eof": "true",
        "auto.offset.reset": "error",  # other values would silently skip deleted messages
        "isolation.level": "read_committed",
        "allow.auto.create.topics": "false",
        "queued.max.messages.kbytes": _QUEUE_KB,
    }
    try:
        consumer = Consumer({**settings, **ours, "error_cb": errors.append}, logger=Quiet())
    except KafkaException as exception:
        raise translate(exception.args[0], where=f"brokers {servers}") from exception
    try:
        yield [Topic(consumer, name, f"topic {name} at {servers}", errors) for name in names]
    finally:
        consumer.close()


class Quiet:
    """Logger that discards librdkafka's log: what matters is reported as an error too."""

    def log(self, *message: object) -> None: ...


def translate(error: Any, *, where: str) -> AuroraSyncError:
    """Return the SourceError for a KafkaError: whether a retry may succeed, and what to do next."""
    hint = _REFUSED.get(error.name())
    return SourceError(
        f"{error.str()} ({error.name()})".strip(),
        where=where,
        hint=hint or _LOST,
        kind=Kind.REFUSED if hint or error.fatal() else Kind.TRANSIENT,
    )


def _read_only(message: Any) -> Message:
    kind, millis = message.timestamp()
    return Message(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        datetime.fromtimestamp(millis / 1000, UTC) if kind else None,
    )

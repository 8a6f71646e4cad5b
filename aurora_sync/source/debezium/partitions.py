"""Detects a change that arrives after a newer change of its key, which was in another partition of the topic.

Debezium writes changes in the order of ``source.sequence``, [LSN of the last commit, LSN of the change]; ``source.lsn``
alone grows for each key, but not across transactions. Kafka keeps that order within a partition only. Partitions are
read one after another, each to its end, so a run may read a change of one partition before an older change of another.

This is harmless while every key has one partition, which the producer's hash selects. It is not harmless for a
**stray**: the change of a key, which has two partitions; a TRUNCATE, which has none; and a change in another partition
than the hash selects, because the number of partitions was raised or the partitioner was replaced. If one of two
changes in different partitions is a stray, the older change must not arrive later.
"""

from __future__ import annotations

from collections.abc import Mapping

SourceSequence = tuple[int, int]  # source.sequence of a change
NewestByPartition = Mapping[int, SourceSequence]  # newest applied change of each partition

_START: SourceSequence = (0, 0)


class Order:
    """Newest applied changes of each partition: ``newest`` of all changes, ``strays`` of strays only. ``used`` is the
    number of partitions that ever had a message."""

    def __init__(
        self,
        partitions: int = 1,
        used: int = 1,
        newest: NewestByPartition | None = None,
        strays: NewestByPartition | None = None,
    ) -> None:
        self.newest, self.strays = dict(newest or {}), dict(strays or {})
        self._partitions, self._used = partitions, used

    def of(self, partitions: int, used: int, before: int) -> Order:
        """Return this order for a topic of ``partitions`` partitions; ``before`` is their number so far. If the number
        changed, keys have other partitions, and all applied changes are strays."""
        return Order(partitions, used, self.newest, self.strays if partitions == before else self.newest)

    def copy(self) -> Order:
        return self.of(self._partitions, self._used, self._partitions)

    def is_astray(self, partition: int, key: bytes | None) -> bool:
        """Return whether a change is in another partition than the hash of its key selects. While only one partition
        has messages, every change counts as a stray, because a second partition may be used later."""
        return self._used <= 1 or key is None or murmur2(key) % self._partitions != partition

    def is_late(self, partition: int, place: SourceSequence, *, stray: bool) -> bool:
        """Return whether a change applied from another partition may be of the same key, and is newer."""
        others = self.newest if stray else self.strays
        return any(other > place for number, other in others.items() if number != partition)

    def took(self, partition: int, place: SourceSequence, *, stray: bool) -> None:
        """Record an applied change."""
        for newest in (self.newest, self.strays) if stray else (self.newest,):
            newest[partition] = max(newest.get(partition, _START), place)


def murmur2(key: bytes) -> int:
    """Return the positive MurmurHash2 by which Kafka's own producer chooses a partition.

    >>> murmur2(b"21") == -973932308 & 0x7FFFFFFF, murmur2(b"foobar") == -790332482 & 0x7FFFFFFF
    (True, True)
    """
    magic, mask = 0x5BD1E995, 0xFFFFFFFF
    whole = len(key) & ~3
    found = 0x9747B28C ^ len(key)
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * magic & mask
        word = (word ^ word >> 24) * magic & mask
        found = found * magic & mask ^ word
    if rest := key[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * magic & mask
    found = (found ^ found >> 13) * magic & mask
    return (found ^ found >> 15) & 0x7FFFFFFF

"""Whether a change comes behind a later one of its key, which another partition of the topic had.

Debezium writes changes in the order of ``source.sequence``, [LSN of the last commit, LSN of the change]; ``source.lsn``
alone grows for each key, and not over transactions. Kafka keeps that order within a partition only. Partitions are read
one after another, each as far as it went, so that a run may have a change of one partition before an older one of
another.

That is harmless while every key has one partition, where the producer's hash puts it. It is not for a **stray**: the
change of a key, which has two; a TRUNCATE, which has none; and a change that lies elsewhere, because the number of
partitions was raised or the partitioner is another one. Of two changes in different partitions, one of which is a
stray, the older one must not come later.
"""

from __future__ import annotations

from collections.abc import Mapping

SourceSequence = tuple[int, int]  # source.sequence of a change
NewestByPartition = Mapping[int, SourceSequence]  # of what was applied

_START: SourceSequence = (0, 0)


class Order:
    """``newest`` and ``strays`` are of what was applied. ``used`` are partitions that ever had a message."""

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
        """The order in a topic of so many partitions. ``before`` is how many there were: with another number a key has
        another place, and all that was applied is astray."""
        return Order(partitions, used, self.newest, self.strays if partitions == before else self.newest)

    def copy(self) -> Order:
        return self.of(self._partitions, self._used, self._partitions)

    def is_astray(self, partition: int, key: bytes | None) -> bool:
        """Whether a change lies elsewhere than the hash of its key says. In the only partition that has messages every
        change counts as a stray: another one may be written tomorrow."""
        return self._used <= 1 or key is None or murmur2(key) % self._partitions != partition

    def is_late(self, partition: int, place: SourceSequence, *, stray: bool) -> bool:
        """Whether a change that was applied from another partition may be of the same key, and newer."""
        others = self.newest if stray else self.strays
        return any(other > place for number, other in others.items() if number != partition)

    def took(self, partition: int, place: SourceSequence, *, stray: bool) -> None:
        """Note what was applied."""
        for newest in (self.newest, self.strays) if stray else (self.newest,):
            newest[partition] = max(newest.get(partition, _START), place)


def murmur2(key: bytes) -> int:
    """The positive hash by which Kafka's own producer chooses a partition.

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

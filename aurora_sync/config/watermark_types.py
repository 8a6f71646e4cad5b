"""The values of ``watermark_type``, each with the keys of tables.yaml that belong to it.

A new strategy adds a row to :class:`WatermarkType` and a description to ``MEANING``; a key that no other strategy has
also becomes a field of TableConfig. The JSON Schema, the choice of defaults for a table, and the errors about keys are
derived from the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

# The default name of the slot and of the publication.
SLOT = "aurora_sync"
CONNECTOR_SLOT = "aurora_sync_debezium"


@dataclass(frozen=True)
class Keys:
    """The keys that a watermark_type requires (``needs``), and further keys that it allows. A key of a strategy is
    refused for every type that does not list it, because nothing would read it."""

    needs: tuple[str, ...] = ()
    allows: tuple[str, ...] = ()
    slot: str = SLOT  # the default of the key ``slot``

    @property
    def all(self) -> tuple[str, ...]:
        return self.needs + self.allows


# The strategies. This is a comment because a docstring would become a description in the JSON Schema.
class WatermarkType(StrEnum):
    keys: Keys

    def __new__(cls, name: str, keys: Keys = Keys()) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.keys = keys
        return member

    timestamp = "timestamp", Keys(needs=("watermark_col",), allows=("watermark_set_by", "merge_predicate"))
    integer = "integer", Keys(needs=("watermark_col",), allows=("watermark_set_by", "lookback", "merge_predicate"))
    xmin = "xmin", Keys(allows=("append_only", "merge_predicate"))
    composite = "composite", Keys(needs=("watermark_cols",), allows=("watermark_set_by", "merge_predicate"))
    full_snapshot = "full_snapshot", Keys()
    logical = "logical", Keys(allows=("slot", "history"))
    debezium = "debezium", Keys(needs=("topic_prefix",), allows=("slot", "connector"), slot=CONNECTOR_SLOT)
    dms = "dms", Keys(needs=("files",), allows=("cdc_path",))
    outbox = "outbox", Keys()


MEANING = (
    "How changed rows are found. timestamp: by a column with the time of the last change; "
    "integer: by an increasing id, inserts only; composite: by a timestamp and further columns; xmin: by "
    "PostgreSQL's transaction ids, for any table that stores rows; full_snapshot: by reading all rows; "
    "logical: by a logical replication slot, deletes included; debezium: by a topic that Debezium's connector "
    "writes, deletes included; dms: by the files that an AWS DMS task writes to S3, deletes included; outbox: by "
    "the keys that triggers write to an outbox table, deletes included."
)
# The types whose changes are read from a replication slot.
SLOTS = tuple(kind for kind in WatermarkType if "slot" in kind.keys.all)

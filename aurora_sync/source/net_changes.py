"""The net effect of a section of a change stream on one table: at most one change per key, in any order.

Changes arrive in the order of their commits, and the newest version of a row replaces the older one. An UPDATE does not
repeat an unchanged value that is stored out of line (TOAST). That value is taken from the pending version of the row,
or at the merge from the target row that the version is based on (correctness.md, section 8.1: compaction). Rows are
identified by the texts of their keys; texts that the warehouse considers equal are replaced by one (model/keys.py).

==================================== =========================================================================
change                               net effect
==================================== =========================================================================
insert                               the row
update                               the row; values not repeated come from the pending row, else from the target
update of the key                    the old key is deleted; the row has the new key, and keeps its origin
delete                               the key is deleted
truncate                             all earlier changes are dropped; the target is emptied first
==================================== =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from aurora_sync.errors import DefectError
from aurora_sync.model.column import Column
from aurora_sync.model.keys import has_two_zeros
from aurora_sync.model.manifest import Part
from aurora_sync.model.receipt import Adjusted
from aurora_sync.source.arrays import as_json
from aurora_sync.source.logical.pgoutput import UNCHANGED, Value, Values
from aurora_sync.source.long_values import Limits

# Values, transaction id, origin, size. The origin is the key of the target row that holds the UNCHANGED values; None if
# there are none. Not a NamedTuple: the garbage collector would traverse all of them again and again, which took a
# quarter of the time. It stops tracking plain tuples.
_Row = tuple[Values, int, Values | None, int]


class NotUtf8Error(ValueError):
    """Raised for a row of CSV with bytes that are not UTF-8. ``row`` begins with the table's columns."""

    def __init__(self, row: bytes) -> None:
        super().__init__(row)
        self.row = row


class NetChanges:
    """Collects the net changes of one table. A row has the values of ``columns``, in this order, and is identified by
    ``key``. ``longest`` is the most bytes of a value that the warehouse accepts (None: no limit)."""

    def __init__(self, table: str, columns: Sequence[Column], key: Sequence[str], longest: int | None = None) -> None:
        names = [column.name for column in columns]
        self.bytes = 0  # size of the pending changes, as the stream sent them
        self._table = table
        self._width = len(names)
        self._key = [names.index(name) for name in key]
        only = self._key[0]
        # A slice makes the key of a single column a tuple too.
        texts_of: Callable[[Values], Values] = itemgetter(*(self._key if key[1:] else [slice(only, only + 1)]))
        self._zeros = [place for place, name in enumerate(key) if has_two_zeros(columns[names.index(name)])]
        self.key_of = (lambda values: self.one_key(texts_of(values))) if self._zeros else texts_of
        self._arrays = [(n, c.base_type) for n, c in enumerate(columns) if c.is_array and c.policy != "text"]
        self._limits = Limits(table, columns, longest)
        self._pending: dict[Values, _Row | None] = {}  # None: deleted
        self._truncated = False

    def __bool__(self) -> bool:
        return bool(self._pending) or self._truncated

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """Values among all written rows that were too long for the warehouse, and what their policy made of them."""
        return self._limits.adjusted

    def one_key(self, texts: Values) -> Values:
        """Return the key with these texts; keys that are equal in the warehouse get the same text (-0 becomes 0)."""
        if not self._zeros:
            return texts
        return tuple(b"0" if text == b"-0" and n in self._zeros else text for n, text in enumerate(texts))

    def insert(self, values: Values, xid: int, size: int) -> None:
        self._put(self.key_of(values), (values, xid, None, size))

    def update(self, values: Values, xid: int, size: int, former: Values | None = None) -> None:
        """Apply an UPDATE. ``former`` is the key that the row had before. The stream has it if the key changed, or is
        itself stored out of line."""
        if former is not None:
            former = self.one_key(former)
            values = self._with_key(values, former)
        key = self.key_of(values)
        source = key if former is None else former
        before = self._pending.get(source)
        if before is None and source in self._pending:
            raise DefectError("the stream updates a row that it deleted before", where=self._table, values=str(source))
        origin = None
        if UNCHANGED in values:
            origin = source
            if before:
                known, _, origin, _ = before
                values = tuple(old if new is UNCHANGED else new for new, old in zip(values, known, strict=True))
                origin = origin if UNCHANGED in values else None
        if source != key:
            self._drop(source)
        self._put(key, (values, xid, origin, size))

    def delete(self, key: Values) -> None:
        self._drop(key)

    def truncate(self) -> None:
        self._pending.clear()
        self.bytes, self._truncated = 0, True

    def write(self, write: Callable[[bytes], object], part: int) -> Part:
        """Write each change as a row of CSV, with the fields of dispositions/changes.py, and drop it from memory.
        Raises NotUtf8Error for a value of a SQL_ASCII database, which sends any bytes."""
        partial, number = 0, b"%d" % part
        nothing: Values = (None,) * len(self._key)
        values: list[Value] = []
        try:
            for key, row in self._pending.items():
                if row is None:
                    values = [None] * self._width
                    for place, value in zip(self._key, key, strict=True):
                        values[place] = value
                    line = csv_row([*values, b"0", b"D", None, number, *nothing])
                else:
                    held, xid, origin, _ = row
                    known, values = None, list(held)
                    if origin is not None:
                        partial += 1
                        known = b"".join([b"0" if value is UNCHANGED else b"1" for value in values])
                        values = [None if value is UNCHANGED else value for value in values]
                    self._limits.apply(values, key)
                    for place, base_type in self._arrays:
                        if isinstance(array := values[place], bytes):
                            values[place] = as_json(array.decode(), base_type).encode()
                    line = csv_row([*values, b"%d" % xid, b"U", known, number, *(origin or nothing)])
                line.decode()
                write(line)
        except UnicodeDecodeError as error:
            raise NotUtf8Error(csv_row(values)) from error
        written = Part(self._truncated, partial)
        self._pending.clear()
        self.bytes, self._truncated = 0, False
        return written

    def _with_key(self, values: Values, former: Values) -> Values:
        filled = list(values)
        for place, value in zip(self._key, former, strict=True):
            if filled[place] is UNCHANGED:
                filled[place] = value
        return tuple(filled)

    def _put(self, key: Values, row: _Row) -> None:
        replaced = self._pending.pop(key, None)
        self._pending[key] = row
        self.bytes += row[3] - (replaced[3] if replaced else 0)

    def _drop(self, key: Values) -> None:
        replaced = self._pending.pop(key, None)
        self._pending[key] = None
        self.bytes -= replaced[3] if replaced else 0


def csv_row(fields: Sequence[Value]) -> bytes:
    """Format a row as ``COPY ... (FORMAT csv, FORCE_QUOTE *)`` does: NULL is empty, the empty string is ``""``."""
    return b",".join([b'"%b"' % f.replace(b'"', b'""') if isinstance(f, bytes) else b"" for f in fields]) + b"\n"

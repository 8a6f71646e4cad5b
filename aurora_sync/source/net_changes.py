"""What a stretch of a change stream did to one table: at most one change for each key, in the order of no matter.

Changes come in the order of their commits. A row is replaced by its newest version; where the stream does not repeat
a value that is stored out of line (TOAST), the older version's, or that of the target row which it was made of
(correctness.md, section 8.1: compaction). Rows are told apart by their keys' texts, of which equal ones are made one
(model/keys.py).

==================================== =========================================================================
change                               what is left of it
==================================== =========================================================================
insert                               the row
update                               the row; what is not repeated from the pending row, else from the target
update of the key                    the old key is gone; the row goes on under the new one, with its origin
delete                               the key is gone
truncate                             nothing of what came before; the target is emptied first
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

# Values, transaction id, origin, size. The origin is the key of the target row that has what is UNCHANGED, None if
# nothing is. Not a NamedTuple: the garbage collector would walk over all of them again and again, which took a quarter
# of the time; it lets go of plain tuples.
_Row = tuple[Values, int, Values | None, int]


class NotUtf8Error(ValueError):
    """A row of CSV, the table's columns first, has bytes that are not UTF-8."""

    def __init__(self, row: bytes) -> None:
        super().__init__(row)
        self.row = row


class NetChanges:
    """Of one table, whose rows come with ``columns`` in this order and are told apart by ``key``. ``longest`` is how
    many bytes of a value the warehouse takes."""

    def __init__(self, table: str, columns: Sequence[Column], key: Sequence[str], longest: int | None = None) -> None:
        names = [column.name for column in columns]
        self.bytes = 0  # held, as the stream sent them
        self._table = table
        self._width = len(names)
        self._key = [names.index(name) for name in key]
        only = self._key[0]
        # A slice, so that the key of one column is a tuple too.
        texts_of: Callable[[Values], Values] = itemgetter(*(self._key if key[1:] else [slice(only, only + 1)]))
        self._zeros = [place for place, name in enumerate(key) if has_two_zeros(columns[names.index(name)])]
        self.key_of = (lambda values: self.one_key(texts_of(values))) if self._zeros else texts_of
        self._arrays = [(n, c.base_type) for n, c in enumerate(columns) if c.is_array and c.policy != "text"]
        self._limits = Limits(table, columns, longest)
        self._pending: dict[Values, _Row | None] = {}  # None: gone
        self._truncated = False

    def __bool__(self) -> bool:
        return bool(self._pending) or self._truncated

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """Values that were too long for a warehouse, and what their policy made of them, of all that was written."""
        return self._limits.adjusted

    def one_key(self, texts: Values) -> Values:
        """The key with these texts: the same for all that are equal in the warehouse."""
        if not self._zeros:
            return texts
        return tuple(b"0" if text == b"-0" and n in self._zeros else text for n, text in enumerate(texts))

    def insert(self, values: Values, xid: int, size: int) -> None:
        self._put(self.key_of(values), (values, xid, None, size))

    def update(self, values: Values, xid: int, size: int, former: Values | None = None) -> None:
        """``former`` is the key that the row had before, where the stream says it: it does so when the key changed,
        or is itself stored out of line."""
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
        """Hand over each change as a row of CSV, with the fields of warehouse/changes.py, and begin anew. Raises
        NotUtf8Error for a value of a SQL_ASCII database, which sends what it has."""
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
    """As ``COPY ... (FORMAT csv, FORCE_QUOTE *)`` writes it: NULL is nothing, the empty string is ``""``."""
    return b",".join([b'"%b"' % f.replace(b'"', b'""') if isinstance(f, bytes) else b"" for f in fields]) + b"\n"

"""All errors that aurora_sync raises for users.

::

    AuroraSyncError
    ├── ConfigError             tables.yaml or the environment is wrong: the user corrects it  never retried
    ├── SourceError             PostgreSQL refused or failed                                   by kind
    ├── StageError              S3 refused or failed                                           by kind
    ├── WarehouseError          Snowflake or DuckDB refused or failed                          by kind
    │   ├── RivalRunError       another run of the table committed first                       retried from the log
    │   └── TargetChangedError  the target was modified since the last run in the log          leads to a full read
    ├── NotComparedError        verify would have to scan or repair before it compares         never retried
    ├── GuardError              continuing would lose or remove data: a person decides         never retried
    └── DefectError             an invariant of aurora_sync does not hold: a bug               never retried
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from aurora_sync.model.foreign_text import printable

# "run again" without a condition. A hint that names a condition ("run again when ...") stays true after further runs.
_RUN_AGAIN = re.compile(r"(?:^|[;:,] )(?:or )?run again(?=$|\. )")


class Kind(Enum):
    """The kind of an error: it decides who can correct it, and whether a retry may help."""

    USER = "user"  # the configuration or the settings are wrong
    REFUSED = "refused"  # a server said no: password, privilege, missing object
    TRANSIENT = "transient"  # connection lost, throttled, serialization, lock: try again
    GUARD = "guard"  # data would be lost or removed: a person decides
    DEFECT = "defect"  # a bug of aurora_sync

    @property
    def retry(self) -> bool:
        return self is Kind.TRANSIENT


class AuroraSyncError(Exception):
    """The base class. Its text is one paragraph for a person: what happened, where, and what to do next.

    ``what`` states what was expected and what was found. ``where`` names the table, file and line or object. ``hint``
    is the next step. ``kind`` decides about retries. ``values`` has data of rows, such as a key or the whole message of
    a server: the text contains them only after :meth:`show_values`, and pickling drops them.
    """

    default_kind = Kind.DEFECT

    def __init__(
        self, what: str, *, where: str = "", hint: str = "", kind: Kind | None = None, values: str = ""
    ) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        self.kind = kind or self.default_kind
        self.values = values
        super().__init__(str(self))

    def lasts(self) -> None:
        """Remove "run again" from the hint, because further runs ended in an error as well.

        >>> error = AuroraSyncError("x", hint="the server ended, failed over or was cut off; run again")
        >>> error.lasts()
        >>> error.hint
        'the server ended, failed over or was cut off'
        """
        self.hint = _RUN_AGAIN.sub("", self.hint)

    def __str__(self) -> str:
        what = "\n".join(map(printable, self._paragraphs()))
        text = f"{printable(self.where)}: {what}" if self.where else what
        return f"{text} ({printable(self.hint)})" if self.hint else text

    def _paragraphs(self) -> list[str]:
        return [self.what]

    def show_values(self) -> None:
        """Add ``values`` to the text of the error. Only for tables with show_values."""
        if self.values:
            self.what, self.values = f"{self.what}: {self.values}", ""
            self.args = (str(self),)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint, self.kind)


def _rebuild(cls: type[AuroraSyncError], what: str, where: str, hint: str, kind: Kind) -> AuroraSyncError:
    error = cls.__new__(cls)
    AuroraSyncError.__init__(error, what, where=where, hint=hint, kind=kind)
    return error


class ConfigError(AuroraSyncError):
    """The error for wrong configuration. It has *all* problems found, each a full sentence with its place."""

    default_kind = Kind.USER

    def __init__(
        self,
        problems: list[str] | str,
        *,
        where: str = "",
        hint: str = "",
        kind: Kind | None = None,
        values: str = "",
    ) -> None:
        self.problems = [printable(problem) for problem in ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems), where=where, hint=hint, kind=kind, values=values)

    def _paragraphs(self) -> list[str]:
        return self.what.split("\n")


class SourceError(AuroraSyncError):
    default_kind = Kind.REFUSED


class StageError(AuroraSyncError):
    default_kind = Kind.REFUSED


class WarehouseError(AuroraSyncError):
    default_kind = Kind.REFUSED


class RivalRunError(WarehouseError):
    """The error for a failed compare-and-set on the run sequence: another run of this table committed first."""

    default_kind = Kind.TRANSIENT


class TargetChangedError(WarehouseError):
    """The error for a target or log that was dropped, restored or edited since the last run. With ``as_text``: the new
    values of these columns only fit into text, so the columns of the target must become text and be read in full."""

    default_kind = Kind.TRANSIENT
    as_text: frozenset[str] = frozenset()


class NotComparedError(AuroraSyncError):
    """The error of a verification that would first need a scan, a reconcile or a full read to bring the target up to
    date. Each of these repairs the differences that the verification should find."""

    default_kind = Kind.REFUSED


class GuardError(AuroraSyncError):
    default_kind = Kind.GUARD


class DefectError(AuroraSyncError):
    default_kind = Kind.DEFECT


@contextmanager
def values_shown(show: bool) -> Iterator[None]:
    """Return a context in which errors of aurora_sync show their ``values``, if ``show`` (the table's show_values)."""
    try:
        yield
    except AuroraSyncError as error:
        if show:
            error.show_values()
        raise

"""Every error that a user can meet.

::

    AuroraSyncError
    ├── ConfigError          tables.yaml or the environment: the user mends it        never retried
    ├── SourceError          PostgreSQL refused or failed                             by kind
    ├── StageError           S3 refused or failed                                     by kind
    ├── WarehouseError       Snowflake or DuckDB refused or failed                    by kind
    │   ├── RivalRunError    another run of the table committed first                 retried from the log
    │   └── TargetChangedError  the target is not as the log left it                  answered by a full read
    ├── NotComparedError     verify would have to scan or repair before it compares     never retried
    ├── GuardError           going on would lose or remove data; a person decides     never retried
    └── DefectError          an invariant of ours does not hold: a bug                never retried
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from aurora_sync.model.foreign_text import printable

# Without a condition. What a hint says to wait for, or to do first, it says of every run.
_RUN_AGAIN = re.compile(r"(?:^|[;:,] )(?:or )?run again(?=$|\. )")


class Kind(Enum):
    """Who can mend it, and whether trying again may help."""

    USER = "user"  # the configuration or the settings are wrong
    REFUSED = "refused"  # a server said no: password, privilege, missing object
    TRANSIENT = "transient"  # connection lost, throttled, serialization, lock: try again
    GUARD = "guard"  # data would be lost or removed: a person decides
    DEFECT = "defect"  # ours

    @property
    def retry(self) -> bool:
        return self is Kind.TRANSIENT


class AuroraSyncError(Exception):
    """One paragraph for a person: what happened, where, and what to do next.

    ``what`` states what was expected and what was found, ``where`` names the table, file and line or
    object, ``hint`` the next step. ``kind`` decides retries. ``values`` is what the error knows of rows, such as a
    key or the whole message of a server: it is shown only after :meth:`show_values`, and not in another process.
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
        """Take "run again" out of the hint: further runs ended in an error as well.

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
        """Show what the error knows of rows: its table has show_values."""
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
    """Something the user wrote is wrong. Carries *all* problems found, each a full sentence with its place."""

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
    """The compare-and-set on the run sequence failed: another run of this table committed first."""

    default_kind = Kind.TRANSIENT


class TargetChangedError(WarehouseError):
    """The target or its log is not as the last run left it: dropped, restored, or edited by hand. Or it cannot stay so:
    the columns ``as_text`` hold what only text can, which is to be read of all rows."""

    default_kind = Kind.TRANSIENT
    as_text: frozenset[str] = frozenset()


class NotComparedError(AuroraSyncError):
    """Only a scan, a reconcile or a full read could bring the target up to date: these repair what a verification is to
    find."""

    default_kind = Kind.REFUSED


class GuardError(AuroraSyncError):
    default_kind = Kind.GUARD


class DefectError(AuroraSyncError):
    default_kind = Kind.DEFECT


@contextmanager
def values_shown(show: bool) -> Iterator[None]:
    """Errors that are raised inside show what they know of rows, if ``show``: the table has show_values."""
    try:
        yield
    except AuroraSyncError as error:
        if show:
            error.show_values()
        raise

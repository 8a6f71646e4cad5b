"""Where things lie under the stage's prefix: pure functions from names to object keys.

::

    prefix/<schema>.<table>/20261123T010203Z-5f0c9a1b2d3e/part-00000.csv.zst
                                                          part-00001.csv.zst
                                                          history-00000.csv.zst
                                                          manifest.json        written last
    prefix/<schema>.<table> to <TARGET>/applied/9999999957-8204532876999-5f0c.json   hints, newest first
    prefix/gc/5f0c9a1b2d3e                                    when gc first missed the attempt of a staging table
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

# The complements of what a hint's key sorts by: as many digits as run sequences and the milliseconds since
# 1970 will ever need.
_MAX_SEQUENCE = 9_999_999_999
_MAX_MILLISECONDS = 9_999_999_999_999
MANIFEST = "manifest.json"

_TABLE = r"[A-Za-z0-9_.%-]*\.[A-Za-z0-9_.%-]*"
_ATTEMPT = re.compile(rf"(?P<attempt>{_TABLE}/(?P<at>\d{{8}}T\d{{6}}Z)-(?P<load_id>[0-9a-f]{{12}})/)(?P<name>[^/]+)")
_NAME = re.compile(rf"(part|history)-\d{{5,}}\.csv(\.zst)?|{re.escape(MANIFEST)}")
_HINT = re.compile(rf"({_TABLE}/applied/)\d{{10}}-\d{{13}}-[0-9a-f]{{4}}\.json")
_MARK = re.compile(r"gc/([0-9a-f]{12})")


def new_load_id() -> str:
    """48 random bits: unique per attempt, so that no two attempts ever share a prefix."""
    return secrets.token_hex(6)


def table_prefix(prefix: str, table: str) -> str:
    """``public.orders`` → ``prefix/public.orders/``; one prefix for each table name, and none inside another.

    Bytes outside ``[A-Za-z0-9_.-]`` are percent-encoded: ``public.größe`` → ``public.gr%C3%B6%C3%9Fe``.
    """
    return f"{prefix}{quote(table, safe='').replace('~', '%7E')}/"


def attempt_prefix(prefix: str, table: str, load_id: str, at: datetime) -> str:
    """Of one attempt; the attempts of a table sort by time. ``at`` is timezone-aware."""
    return f"{table_prefix(prefix, table)}{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{load_id}/"


def part_name(number: int) -> str:
    """Of the attempt's file ``number``, from 0."""
    return f"part-{number:05d}.csv.zst"


def history_name(number: int) -> str:
    """Of the attempt's file ``number`` of the table's history, from 0."""
    return f"history-{number:05d}.csv.zst"


def hints_prefix(prefix: str, table: str) -> str:
    return f"{table_prefix(prefix, table)}applied/"


def hint_key(prefix: str, table: str, run_sequence: int, at: datetime) -> str:
    """Sorts before the hints of smaller run sequences, then before the older ones: the first key listed is
    the newest. The random end keeps two confirmations in one millisecond apart."""
    milliseconds = _MAX_MILLISECONDS - int(at.timestamp() * 1000)
    return (
        f"{hints_prefix(prefix, table)}{_MAX_SEQUENCE - run_sequence:010d}-{milliseconds:013d}"
        f"-{secrets.token_hex(2)}.json"
    )


def hint_sequence(key: str) -> int | None:
    """The run sequence in a hint's key, or None for a key that is no hint's."""
    digits = key.rpartition("/")[2].partition("-")[0]
    return _MAX_SEQUENCE - int(digits) if len(digits) == 10 and digits.isdecimal() else None


@dataclass(frozen=True)
class AttemptKey:
    """What the key of an attempt's object says."""

    prefix: str  # of the attempt
    at: datetime
    load_id: str
    name: str


def attempt_key(prefix: str, key: str) -> AttemptKey | None:
    """The inverse of :func:`attempt_prefix` and a file's name; None for a key of any other form."""
    found = _ATTEMPT.fullmatch(key.removeprefix(prefix))
    if not key.startswith(prefix) or found is None or not _NAME.fullmatch(found["name"]):
        return None
    try:
        at = datetime.strptime(found["at"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:  # month 13: not written by us
        return None
    return AttemptKey(f"{prefix}{found['attempt']}", at, found["load_id"], found["name"])


def hints_prefix_of(prefix: str, key: str) -> str | None:
    """The prefix that a hint lies under; None for a key that is no hint's."""
    found = _HINT.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return f"{prefix}{found[1]}" if found else None


def mark_key(prefix: str, load_id: str) -> str:
    """Of gc's note on a staging table. No table's prefix is ``gc/``: theirs have a dot."""
    return f"{prefix}gc/{load_id}"


def mark_load_id(prefix: str, key: str) -> str | None:
    """The inverse of :func:`mark_key`; None for a key that is no mark's."""
    found = _MARK.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return found[1] if found else None

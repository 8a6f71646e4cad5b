"""The layout of the objects under the stage's prefix, as pure functions from names to object keys and back.

::

    prefix/<schema>.<table>/20261123T010203Z-5f0c9a1b2d3e/part-00000.csv.zst
                                                          part-00001.csv.zst
                                                          history-00000.csv.zst
                                                          part-00000.csv       written by the server, and
                                                          part-00000.csv_part2 the next part of a large one
                                                          manifest.json        written last
    prefix/<schema>.<table> to <TARGET>/applied/9999999957-8204532876999-5f0c.json   hints, newest first
    prefix/<schema>.<table> to <TARGET>/load/0000000003                            the lease of a load in chunks
    prefix/gc/5f0c9a1b2d3e                           a mark: when gc first found no attempt for a staging table
    prefix/report/aurora_sync.html                   the report that a job published last
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

# Hint keys have the complement of the run sequence and of the milliseconds since 1970, so that they sort newest first.
# Both maxima have enough digits for every possible value.
_MAX_SEQUENCE = 9_999_999_999
_MAX_MILLISECONDS = 9_999_999_999_999
MANIFEST = "manifest.json"

_TABLE = r"[A-Za-z0-9_.%-]*\.[A-Za-z0-9_.%-]*"
_ATTEMPT = re.compile(rf"(?P<attempt>{_TABLE}/(?P<at>\d{{8}}T\d{{6}}Z)-(?P<load_id>[0-9a-f]{{12}})/)(?P<name>[^/]+)")
_NAME = re.compile(rf"(part|history)-\d{{5,}}\.csv(\.zst)?|part-\d{{5,}}\.csv_part\d+|{re.escape(MANIFEST)}")
_HINT = re.compile(rf"({_TABLE}/applied/)\d{{10}}-\d{{13}}-[0-9a-f]{{4}}\.json")
_MARK = re.compile(r"gc/([0-9a-f]{12})")


def new_load_id() -> str:
    """Return 48 random bits as hexadecimal text: unique per attempt, so that no two attempts share a prefix."""
    return secrets.token_hex(6)


def table_prefix(prefix: str, table: str) -> str:
    """Return the prefix of a table: ``public.orders`` → ``prefix/public.orders/``. No table's prefix contains another.

    Bytes outside ``[A-Za-z0-9_.-]`` are percent-encoded: ``public.größe`` → ``public.gr%C3%B6%C3%9Fe``.
    """
    return f"{prefix}{quote(table, safe='').replace('~', '%7E')}/"


def attempt_prefix(prefix: str, table: str, load_id: str, at: datetime) -> str:
    """Return the prefix of one attempt; the attempts of a table sort by time. ``at`` is timezone-aware."""
    return f"{table_prefix(prefix, table)}{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{load_id}/"


def report_key(prefix: str, project: str) -> str:
    """Return the key of the report of a project. gc leaves it alone."""
    return f"{prefix}report/{project}.html"


def part_name(number: int) -> str:
    """Return the name of the attempt's file ``number``, from 0."""
    return f"part-{number:05d}.csv.zst"


def own_name(number: int) -> str:
    """Return the name of the attempt's file ``number``, from 0, if the exporter creates the object by itself. Aurora
    appends ``_part2`` and so on to the names of further parts of a large file."""
    return f"part-{number:05d}.csv"


def history_name(number: int) -> str:
    """Return the name of the attempt's history file ``number``, from 0."""
    return f"history-{number:05d}.csv.zst"


def hints_prefix(prefix: str, table: str) -> str:
    return f"{table_prefix(prefix, table)}applied/"


def hint_key(prefix: str, table: str, run_sequence: int, at: datetime) -> str:
    """Return a key for a hint. It sorts before hints of smaller run sequences, then before older hints, so the first
    key in a listing is the newest. A random suffix distinguishes two confirmations within one millisecond."""
    milliseconds = _MAX_MILLISECONDS - int(at.timestamp() * 1000)
    return (
        f"{hints_prefix(prefix, table)}{_MAX_SEQUENCE - run_sequence:010d}-{milliseconds:013d}"
        f"-{secrets.token_hex(2)}.json"
    )


def hint_sequence(key: str) -> int | None:
    """Return the run sequence in the key of a hint, None for any other key."""
    digits = key.rpartition("/")[2].partition("-")[0]
    return _MAX_SEQUENCE - int(digits) if len(digits) == 10 and digits.isdecimal() else None


@dataclass(frozen=True)
class AttemptKey:
    """The parts of the key of an attempt's object."""

    prefix: str  # of the attempt
    at: datetime
    load_id: str
    name: str


def attempt_key(prefix: str, key: str) -> AttemptKey | None:
    """Return the parts of a key that :func:`attempt_prefix` and a file name form; None for any other key."""
    found = _ATTEMPT.fullmatch(key.removeprefix(prefix))
    if not key.startswith(prefix) or found is None or not _NAME.fullmatch(found["name"]):
        return None
    try:
        at = datetime.strptime(found["at"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:  # not a date, such as month 13: another program wrote the object
        return None
    return AttemptKey(f"{prefix}{found['attempt']}", at, found["load_id"], found["name"])


def hints_prefix_of(prefix: str, key: str) -> str | None:
    """Return the prefix of the hint with this key; None for any other key."""
    found = _HINT.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return f"{prefix}{found[1]}" if found else None


def lease_prefix(prefix: str, table: str) -> str:
    """Return the prefix of the leases of a load in chunks; ``table`` names the target as well, as for a hint."""
    return f"{table_prefix(prefix, table)}load/"


def lease_number(key: str) -> int:
    return int(key.rpartition("/")[2])


def mark_key(prefix: str, load_id: str) -> str:
    """Return the key of gc's mark for a staging table. No table has the prefix ``gc/``: its prefix contains a dot."""
    return f"{prefix}gc/{load_id}"


def mark_load_id(prefix: str, key: str) -> str | None:
    """Return the load id in the key of a mark; None for any other key."""
    found = _MARK.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return found[1] if found else None

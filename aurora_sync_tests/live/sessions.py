"""Cases of the rules about sessions (rules 6 to 8), and of what transactions do."""

from __future__ import annotations

import subprocess
import sys
import time
from threading import Event, Thread

from aurora_sync.config.backends.snowflake import LOGIN_METHODS
from aurora_sync.errors import AuroraSyncError, DefectError, WarehouseError
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import NO_COLLATION, TableName
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync.warehouse.snowflake_login import session_parameters
from aurora_sync_tests.live import killed
from aurora_sync_tests.live.cases import Found, case, not_tried, said
from aurora_sync_tests.live.ground import Ground, Live, Recorded, tag
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, SnowflakeLike

_HISTORY = (
    "SELECT QUERY_ID, EXECUTION_STATUS, TOTAL_ELAPSED_TIME FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER("
    "RESULT_LIMIT => 1000)) WHERE CONTAINS(QUERY_TAG, ?) AND QUERY_TYPE = 'MERGE'"
)


_ENDED = ("FAILED", "SUCCESS")


def snowflake_of(live: Live) -> SnowflakeWarehouse:
    assert isinstance(live.places.warehouse, Recorded)
    inner = live.places.warehouse.inner
    assert isinstance(inner, SnowflakeWarehouse)
    return inner


@case(6, "The login uses no password", cannot="it accepts every login")
def login_without_a_password(live: Live) -> Found:
    login = snowflake_of(live).settings.login
    used = next((m.name for m in LOGIN_METHODS if any(name.lower() in login for name in m.variables)), "browser")
    return said(used != "password", f"the login method is: {used}")


@case(7, "Every session parameter that the statements rely on is in force", cannot="it ignores session parameters")
def session_parameters_are_in_force(live: Live) -> Found:
    shown = {key: str(value) for key, value, *_ in live.query("SHOW PARAMETERS IN SESSION")}
    wanted = session_parameters(snowflake_of(live).settings)
    differ = {
        name: shown.get(name) for name, value in wanted.items() if shown.get(name, "").lower() != str(value).lower()
    }
    return said(not differ, f"{len(wanted)} parameters, of which differ: {differ or 'none'}")


@case(7, "Snowflake ends the MERGE of a killed run, and the table does not change", cannot="its MERGE ends at once")
def killed_merge(live: Live) -> Found:
    """Takes some minutes, so it is last in the suite. :func:`begin_to_kill` has killed the process at the begin."""
    killed_at = _killed.get(live.name, "no process was started")
    if isinstance(killed_at, str):
        return not_tried(killed_at)
    while (found := live.query(_HISTORY, (f"{live.name} killed",))) and not found[0][1].startswith(_ENDED):
        if time.monotonic() - killed_at > killed.RUNNING_SECONDS + 60:
            break
        time.sleep(10)
    ((_, status, milliseconds),) = found
    rows = int(live.value(f"SELECT COUNT(*) FROM {live.table('KILLED').sql}"))
    seconds = int(milliseconds) // 1000
    return said(
        status.startswith("FAILED") and rows == 0,
        f"the MERGE ended as {status} after {seconds} s; it wrote {rows} rows",
    )


# When the process was killed, or why it was not.
_killed: dict[str, float | str] = {}


def begin_to_kill(live: Live) -> None:
    """Start a process that merges for some minutes, and kill it when Snowflake runs its MERGE."""
    try:
        _killed[live.name] = _kill(live)
    except AuroraSyncError as error:
        _killed[live.name] = f"the process could not be watched: {error}"


def _kill(live: Live) -> float | str:
    live.query(f'CREATE TABLE {live.table("KILLED").sql} ("K" NUMBER(19,0)){NO_COLLATION}')
    command = [sys.executable, "-m", killed.__name__, live.table("KILLED").sql, live.name]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline and process.poll() is None:
                if any(status == "RUNNING" for _, status, _ in live.query(_HISTORY, (f"{live.name} killed",))):
                    return time.monotonic()
                time.sleep(1)
        finally:
            process.kill()
    return "the MERGE of the process that was to be killed did not begin within a minute"


@case(8, "Times print with six digits, and bytes as hexadecimal digits", Ground.FAKE)
def texts_of_values(live: Live) -> Found:
    found = live.query(
        "SELECT CAST(CAST('2024-02-29 12:00:00.123456' AS TIMESTAMP_NTZ(6)) AS VARCHAR),"
        " CAST(CAST('2024-02-29' AS DATE) AS VARCHAR)"
    )
    return said(found == [("2024-02-29 12:00:00.123456", "2024-02-29")], f"found {found[0]}")


@case(
    8, "A time with a zone prints with its offset, and bytes as hexadecimal digits", cannot="it prints as DuckDB does"
)
def texts_of_zones_and_bytes(live: Live) -> Found:
    found = live.query(
        "SELECT CAST(CAST('2024-02-29 12:00:00.5+02:00' AS TIMESTAMP_TZ(6)) AS VARCHAR),"
        " CAST(TO_BINARY('00ff', 'HEX') AS VARCHAR)"
    )
    return said(found == [("2024-02-29 12:00:00.500000+02:00", "00FF")], f"found {found[0]}")


@case(8, "TO_VARCHAR(x, 'TME') keeps all digits of a FLOAT", cannot="a cast prints all digits there")
def digits_of_floats(live: Live) -> Found:
    text = live.value("SELECT TO_VARCHAR(CAST('0.1' AS FLOAT) + CAST('0.2' AS FLOAT), 'TME')")
    return said(float(text) == 0.1 + 0.2, f"0.1 + 0.2 printed as {text}; Python has {0.1 + 0.2!r}")


@case(7, "A query after an UPDATE that waited for a lock sees what the rival committed", Ground.SMALL)
def waited_for_a_lock(live: Live) -> Found:
    """The evidence also says whether the UPDATE itself saw it; sync_log.advance does not rely on that."""
    table = live.table("FENCE").sql
    live.query(f'CREATE TABLE {table} ("N" NUMBER(5,0)){NO_COLLATION}')
    live.query(f"INSERT INTO {table} VALUES (1)")
    changed: list[int] = []
    seen: list[int] = []
    arrived = Event()
    warehouse = snowflake_of(live)
    if isinstance(warehouse, SnowflakeLike):
        warehouse.server.lock_timeout = 60

        def noticed(_: Connection, statement: str) -> None:
            if 'SET "N" = 10' in statement:
                arrived.set()

        warehouse.server.before = noticed

    def rival() -> None:
        with warehouse.session(query_tag=tag(live.name, "rival")) as session, session.transaction():
            changed.append(session.modify(f'UPDATE {table} SET "N" = 10 WHERE "N" = 2'))
            seen.extend(int(row[0]) for row in session.query(f'SELECT "N" FROM {table}'))

    waiting = Thread(target=rival)
    with live.session.transaction():
        live.session.modify(f'UPDATE {table} SET "N" = "N" + 1')
        waiting.start()
        if live.on_snowflake:
            _wait_for_lock(live.session)
        else:
            arrived.wait(60)
    waiting.join()
    if isinstance(warehouse, SnowflakeLike):
        warehouse.server.before = lambda *_: None
    saw = "saw" if changed == [1] else "did not see"
    return said(seen in ([2], [10]), f"the UPDATE {saw} the rival's commit (changed {changed}); the query saw {seen}")


def _wait_for_lock(session: Session) -> None:
    """Wait until a statement of this user waits for a lock."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any("WAITING" in map(str, row) for row in session.query("SHOW LOCKS")):
            return
        time.sleep(1)
    raise TimeoutError("no statement waited for the lock of the first UPDATE")


@case(7, "A failed statement ends its transaction without a change", Ground.FAKE)
def failed_transaction(live: Live) -> Found:
    table = live.table("ABORTED").sql
    live.query(f'CREATE TABLE {table} ("A" NUMBER(5,0)){NO_COLLATION}')
    try:
        with live.session.transaction():
            live.session.modify(f"INSERT INTO {table} VALUES (1)")
            live.session.modify(f"INSERT INTO {table} VALUES ('x')")
    except WarehouseError:
        rows = int(live.value(f"SELECT COUNT(*) FROM {table}"))
        return said(rows == 0, f"{rows} rows are left of two INSERTs, of which the second failed")
    return said(False, "the text 'x' was inserted into a NUMBER")


@case(7, "INSERT ... SELECT with HAVING writes the log entry only if the count of rows is right", Ground.FAKE,
      Ground.SMALL)  # fmt: skip
def insert_with_having(live: Live) -> Found:
    """The statement of sync_log.record, on a log of its own."""
    live.at_source("CREATE TABLE summed (id int PRIMARY KEY); INSERT INTO summed SELECT generate_series(1, 9)")
    config = live.config("summed")
    live.run(config)
    log, target = live.places.log_schema, TableName(*config.target)
    entry = sync_log.find(live.session, target, 1, log)
    assert entry is not None
    written = []
    for rows in (9, 8):
        marked = f'{{"sums": "{sync_log.sums_of(entry.load_id)}"}}'
        changed = {"run_sequence": 100 + rows, "target_rows": rows, "watermark": marked}
        try:
            sync_log.record(live.session, type(entry)(**{**vars(entry), **changed}), target, log)
        except DefectError:
            continue
        written.append(rows)
    found = sync_log.find(live.session, target, 109, log)
    sums = found.watermark if found else "no entry"
    return said(written == [9], f"tried with 9 and 8 of 9 rows, written with {written}; the watermark is {sums}")

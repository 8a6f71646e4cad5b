"""What the statements of aurora_sync used, from the history of a Snowflake account."""

from __future__ import annotations

from aurora_sync.errors import WarehouseError
from aurora_sync.model.usage import Usage
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import identifier
from aurora_sync.warehouse.query_tag import PREFIX
from aurora_sync.warehouse.snowflake_errors import MissingObjectError
from aurora_sync.warehouse.snowflake_grants import read_history

# QUERY_ATTRIBUTION_HISTORY lacks statements of up to about 100 ms, and is up to 8 hours behind. QUERY_HISTORY is up to
# 45 minutes behind. Source: Snowflake's documentation of both views.
_STATEMENT = """
SELECT COALESCE(TRY_PARSE_JSON(q."QUERY_TAG"):"table"::VARCHAR, '') AS "SOURCE_TABLE", COUNT(*),
       SUM(a."CREDITS_ATTRIBUTED_COMPUTE" + COALESCE(a."CREDITS_USED_QUERY_ACCELERATION", 0)),
       SUM(q."EXECUTION_TIME"), SUM(q."BYTES_SCANNED"), SUM(q."BYTES_WRITTEN"),
       SUM(q."PARTITIONS_SCANNED"), SUM(q."PARTITIONS_TOTAL")
  FROM "SNOWFLAKE"."ACCOUNT_USAGE"."QUERY_HISTORY" AS q
  LEFT JOIN "SNOWFLAKE"."ACCOUNT_USAGE"."QUERY_ATTRIBUTION_HISTORY" AS a
    ON a."QUERY_ID" = q."QUERY_ID" AND a."START_TIME" >= DATEADD('DAY', -{days}, CURRENT_TIMESTAMP())
 WHERE q."START_TIME" >= DATEADD('DAY', -{days}, CURRENT_TIMESTAMP()) AND STARTSWITH(q."QUERY_TAG", ?)
 GROUP BY 1 ORDER BY 3 DESC NULLS LAST, 4 DESC, 1
""".strip()


def usage(session: Session, days: int) -> list[Usage]:
    """Return the use of each table in the last ``days`` days, the most expensive one first. Raises WarehouseError, with
    the GRANT that is needed, when the role may not read the history."""
    try:
        rows = session.query(_STATEMENT.format(days=int(days)), (PREFIX,))
    except MissingObjectError as error:
        ((role,),) = session.query("SELECT CURRENT_ROLE()")
        raise WarehouseError(
            f"the role {role} may not read SNOWFLAKE.ACCOUNT_USAGE: {error.what}",
            where=error.where,
            hint=f"run as ACCOUNTADMIN: {read_history(identifier(role))};",
        ) from None
    return [
        Usage(table, int(count), None if credits is None else float(credits), float(ms or 0) / 1000, *map(_int, sizes))
        for table, count, credits, ms, *sizes in rows
    ]


def _int(value: int | None) -> int:
    return int(value or 0)

"""Settings of Debezium's session that decide PostgreSQL's text, and that no option of the connector changes.

Under another bytea_output or extra_float_digits, values are sent changed. Under IntervalStyle sql_standard, most
intervals are sent as zero.
"""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

ROLE_SETTINGS = {"bytea_output": "hex", "extra_float_digits": "1", "IntervalStyle": "iso_8601", "TimeZone": "UTC"}

# A role's settings for one database override its settings for all.
_SETTINGS = """
SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
 WHERE r.rolname = %s AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
 ORDER BY setdatabase
"""


def has_settings(connection: Connection, role: str) -> bool:
    """Return whether every session of the role in this database begins with ROLE_SETTINGS."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTINGS, (role,))
        pairs = [pair.partition("=") for (settings,) in cursor.fetchall() for pair in settings]
    found = {name.lower(): value for name, _, value in pairs}
    return all(found.get(name.lower()) == value for name, value in ROLE_SETTINGS.items())


def role_exists(connection: Connection, role: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
        return cursor.fetchone() is not None

"""Descriptions of a DSN that leave out its secrets."""

from __future__ import annotations

from psycopg2.extensions import parse_dsn


def describe(dsn: str) -> str:
    """Format a DSN as ``user@host:port/database``, without secrets."""
    parts = parse_dsn(dsn)
    host = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}"
    return f"{parts.get('user', '')}@{host}/{parts.get('dbname', '')}"


def database_name(dsn: str) -> str:
    return str(parse_dsn(dsn).get("dbname", "postgres"))

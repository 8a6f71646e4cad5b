"""Hints for missing privileges (SQLSTATE 42501), by the message of the server."""

from __future__ import annotations

import re

_TO = "to this role"
_MISSING = {
    r"permission denied for (?:(?:foreign )?table|(?:materialized )?view) (?P<name>.+)": (
        f"GRANT SELECT ON {{name}} {_TO}"
    ),
    r"permission denied for sequence (?P<name>.+)": f"GRANT SELECT ON SEQUENCE {{name}} {_TO}",
    r"permission denied for schema (?P<name>.+)": f"GRANT USAGE ON SCHEMA {{name}} {_TO}",
    r"permission denied for (?P<kind>function|procedure|aggregate|routine) (?P<name>.+)": (
        f"GRANT EXECUTE ON {{kind}} {{name}} {_TO}; if several have this name, add the types of the arguments"
    ),
    r"permission denied for (?P<kind>type|domain|language|foreign server) (?P<name>.+)": (
        f"GRANT USAGE ON {{kind}} {{name}} {_TO}"
    ),
    r"permission denied for database (?P<name>.+)": (
        f"GRANT CONNECT ON DATABASE {{name}} {_TO}; to create a publication or a schema also GRANT CREATE"
    ),
    r"permission denied to .*replication.*|must be superuser or replication role.*": (
        "ALTER ROLE ... REPLICATION; on RDS and Aurora GRANT rds_replication to this role"
    ),
    r"must be owner of .+": "connect as the owner of the object, or make this role the owner: ALTER ... OWNER TO",
    r"query would be affected by row-level security policy for table (?P<name>.+)": (
        "a policy of {name} would hide rows from this role: ALTER ROLE ... BYPASSRLS, or make this role the owner of"
        " the table; if a view reads the table, do so for the owner of the view"
    ),
}
_PLAIN = re.compile(r'[a-z_][a-z0-9_$]*|".*"')


def missing_privilege(said: str) -> str:
    """Return the statement or the step that lets this role do what the server refused with this message.

    >>> missing_privilege("permission denied for schema Sales")
    'GRANT USAGE ON SCHEMA "Sales" to this role'
    """
    for pattern, hint in _MISSING.items():
        if found := re.fullmatch(pattern, said, re.DOTALL):
            named = found.groupdict()
            return hint.format(name=_quoted(named.get("name", "")), kind=named.get("kind", "").upper())
    return "grant this role the privilege that the message names"


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'

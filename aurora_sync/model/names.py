"""The names of source tables and columns in the warehouse.

The rule does not depend on the kind of warehouse. Whether two tables or columns get the same name depends on
tables.yaml and the source alone. So names that a trial on DuckDB accepts are accepted on Snowflake as well.
"""

from __future__ import annotations

import re


def fold(name: str) -> str:
    """Return the name with ASCII letters in upper case, and all other characters unchanged.

    >>> fold("order_lines"), fold("größe")
    ('ORDER_LINES', 'GRößE')
    """
    return re.sub("[a-z]+", lambda letters: letters[0].upper(), name)

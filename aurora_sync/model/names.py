"""The names of source tables and columns in the warehouse.

The option ``names`` of tables.yaml decides how a name is written. Targets are identified without regard to case: by the
folded name, in the sync log and in all comparisons. So a target that exists keeps its names when the option changes,
and no second target is made beside it.

The rule does not depend on the kind of warehouse. Whether two tables or columns get the same name depends on
tables.yaml and the source alone. So names that a trial on DuckDB accepts are accepted on Snowflake as well. DuckDB
refuses columns that differ only by case.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

NameStyle = Literal["upper", "preserve", "lower"]


def fold(name: str) -> str:
    """Return the name with ASCII letters in upper case, and all other characters unchanged.

    >>> fold("order_lines"), fold("größe")
    ('ORDER_LINES', 'GRößE')
    """
    return re.sub("[a-z]+", lambda letters: letters[0].upper(), name)


def written(name: str, style: NameStyle) -> str:
    """Return the name of a new table or column in the warehouse.

    >>> [written("orderId", style) for style in ("upper", "preserve", "lower")]
    ['ORDERID', 'orderId', 'orderid']
    """
    if style == "preserve":
        return name
    return fold(name) if style == "upper" else re.sub("[A-Z]+", lambda letters: letters[0].lower(), name)


def differing_by_case(names: Iterable[str]) -> frozenset[str]:
    """Return the folded names that several names have.

    >>> differing_by_case(["id", "ID", "name"])
    frozenset({'ID'})
    """
    return frozenset(name for name, times in Counter(map(fold, names)).items() if times > 1)


@dataclass(frozen=True)
class TargetNames:
    """The names of source columns in one target, whose columns are ``found``. A column that exists keeps its name; the
    name of a new one is written as ``style`` says. Columns whose folded names are in ``exact`` differ only by case, so
    they are found by their exact names.

    >>> names = TargetNames("preserve", ("ORDERID",))
    >>> names.of("orderId"), names.of("madeAt"), names.present("madeAt")
    ('ORDERID', 'madeAt', None)
    """

    style: NameStyle
    found: tuple[str, ...] = ()
    exact: frozenset[str] = frozenset()

    def present(self, name: str) -> str | None:
        """Return the column that exists for a source column; None when there is none."""
        alike = self._alike.get(fold(name), [])
        if fold(name) in self.exact:
            return name if name in alike else None
        for wanted in (written(name, self.style), name):
            if wanted in alike:
                return wanted
        return alike[0] if len(alike) == 1 else None

    def of(self, name: str) -> str:
        """Return the name of a source column in the target."""
        found = self.present(name)
        return written(name, self.style) if found is None else found

    @cached_property
    def _alike(self) -> dict[str, list[str]]:
        alike = defaultdict(list)
        for name in self.found:
            alike[fold(name)].append(name)
        return dict(alike)

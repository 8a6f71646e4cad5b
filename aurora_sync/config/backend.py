"""Declaration of the environment variables that a kind of warehouse needs.

Each kind has its own declaration in config/backends. Error messages and the table of variables in the documentation are
generated from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    purpose: str
    needed: str = "optional"  # "optional", "always", or "for <kind of warehouse>"
    default: str = ""
    secret: bool = False
    form: str = ""  # regular expression that a whole value must match; empty: any text
    allowed: str = ""  # ``form`` in words


@dataclass(frozen=True)
class WarehouseSettings:
    """The address of a warehouse and the login. Each backend has a subclass with its own settings."""

    kind: ClassVar[str]
    one_process: ClassVar[bool] = False  # only one process at a time can write to it


@dataclass(frozen=True)
class Backend:
    """A kind of warehouse: the form of AURORA_SYNC_WAREHOUSE that selects it, and its other variables.

    ``form`` is a regular expression for AURORA_SYNC_WAREHOUSE, ``allowed`` describes it in an error message, and
    ``purpose`` in the documentation. ``read`` and ``problems`` get the values of all variables; a variable that is not
    set has an empty value. ``problems`` returns a full sentence for each contradiction between the backend's variables.
    """

    kind: str
    form: str
    allowed: str
    purpose: str
    read: Callable[[Mapping[str, str]], WarehouseSettings]
    variables: tuple[Variable, ...] = ()
    problems: Callable[[Mapping[str, str]], list[str]] = lambda _: []

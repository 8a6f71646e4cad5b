"""What a kind of warehouse needs of the environment, as a declaration. Errors and the table of the README are made from
it; each kind declares its own in config/backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    purpose: str
    needed: str = "optional"  # or always, or "for" and a kind of warehouse
    default: str = ""
    secret: bool = False
    form: str = ""  # regular expression of its values; empty: any text
    allowed: str = ""  # the form in words


@dataclass(frozen=True)
class WarehouseSettings:
    """Where a warehouse is and how to log in. A backend's own settings are a subclass."""

    kind: ClassVar[str]
    one_process: ClassVar[bool] = False  # only one process at a time can write to it


@dataclass(frozen=True)
class Backend:
    """How AURORA_SYNC_WAREHOUSE names a kind of warehouse, and which variables say the rest.

    ``form`` is a regular expression of AURORA_SYNC_WAREHOUSE; ``allowed`` says the same in words, and ``purpose`` is
    what the README says. ``read`` and ``problems`` get the values of all variables, empty where one is not set;
    ``problems`` are full sentences on how the backend's own contradict each other.
    """

    kind: str
    form: str
    allowed: str
    purpose: str
    read: Callable[[Mapping[str, str]], WarehouseSettings]
    variables: tuple[Variable, ...] = ()
    problems: Callable[[Mapping[str, str]], list[str]] = lambda _: []

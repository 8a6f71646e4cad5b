"""Spans for OpenTelemetry. They are recorded where the package opentelemetry-api is installed and the process has a
tracer provider; nothing else depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.receipt import Receipt


@cache
def _api() -> Any:
    """Return the module opentelemetry.trace; None if it is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """Record the time in the context, or in each call of the decorated function, as a span. An error ends it with the
    text that a log would have: a traceback may contain values of rows."""
    if (trace := _api()) is None:
        yield
        return
    with trace.get_tracer("aurora_sync").start_as_current_span(
        name, attributes=_prefixed(attributes), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            text = str(error) if isinstance(error, AuroraSyncError) else type(error).__name__
            current.set_status(trace.Status(trace.StatusCode.ERROR, text))
            current.set_attribute("error.type", type(error).__name__)
            raise


def describe(receipt: Receipt) -> None:
    """Give the current span the result of a table's run."""
    if (trace := _api()) is None:
        return
    names = ("table", "target", "strategy", "method", "load_id", "run_sequence", "changed", "inserted", "updated")
    found = {name: getattr(receipt, name) for name in (*names, "deleted", "target_rows")}
    found |= {"rows": receipt.rows_exported, "bytes": receipt.bytes_staged}
    found["certificate"] = receipt.certificate.level.value
    if receipt.verification:
        found["equal"] = receipt.verification.equal
    trace.get_current_span().set_attributes(_prefixed(found))


def _prefixed(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"aurora_sync.{name}": value for name, value in attributes.items()}

"""Metrics in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """The description of a metric. ``kind`` is gauge or counter."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One value of a metric. ``labels`` has the values of the metric's labels, by name."""

    metric: Metric
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def text_format(samples: Iterable[Sample]) -> str:
    """Return the samples as text, grouped by metric.

    >>> print(text_format([Sample(Metric("rows", "gauge", "Rows.", ("table",)), 5, {"table": "a"})]), end="")
    # HELP rows Rows.
    # TYPE rows gauge
    rows{table="a"} 5
    """
    grouped: dict[Metric, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.metric, []).append(sample)
    return "".join(f"{line}\n" for metric, of_metric in grouped.items() for line in _lines(metric, of_metric))


def _lines(metric: Metric, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
        yield f"{metric.name}{{{labels}}} {sample.value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""Named jobs over assets: what their runs do, with which tags, and when."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from aurora_sync.config.tables import TableConfig
from aurora_sync.orchestration import checks
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.compat import PRIORITY_TAG
from aurora_sync.orchestration.project import Project


@dataclass(frozen=True)
class Part:
    """What one run of a job does: its assets, the config of their steps, the tags of the run, and its checks.

    ``check_keys`` are the checks of a run that a schedule requests; None selects all.
    """

    keys: Sequence[dg.AssetKey]
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    check_keys: Sequence[dg.AssetCheckKey] | None = None

    @property
    def run_config(self) -> dict[str, Any]:
        return {"ops": {step: {"config": dict(config)} for step, config in self.steps.items()}}


def run_tags(table: TableConfig) -> dict[str, str]:
    """Return the tags of a run that syncs the table. The priority is one of them."""
    texts = {name: tag if isinstance(tag, str) else json.dumps(tag) for name, tag in table.run_tags.items()}
    return texts | ({PRIORITY_TAG: str(table.priority)} if table.priority else {})


def by_run_tags(tables: Iterable[TableAsset]) -> list[tuple[dict[str, str], list[TableAsset]]]:
    """Group tables whose runs have the same tags, because a run has one set of tags."""
    groups: defaultdict[str, list[TableAsset]] = defaultdict(list)
    for asset in tables:
        groups[json.dumps(run_tags(asset.table), sort_keys=True)].append(asset)
    return [(run_tags(members[0].table), members) for members in groups.values()]


def blocking_checks(tables: Iterable[TableAsset]) -> list[dg.AssetCheckKey]:
    """Return the checks that a requested run selects: those that stop downstream assets.

    The steps evaluate the other checks all the same. Dagster writes a row for each selected check before the run
    starts, by three connections to its storage. That took most of a tick of 1,000 tables.
    """
    return [
        dg.AssetCheckKey(asset.key, name)
        for asset in tables
        for name, check in checks.enabled(asset.table).items()
        if check.blocking
    ]


def asset_job(name: str, parts: Sequence[Part], description: str, project: Project) -> dg.UnresolvedAssetJobDefinition:
    """Return a job that does all ``parts`` in one run, with the executor of the project.

    The run has the tags that all parts have in common.
    """
    steps: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        for step, config in part.steps.items():
            steps[step] = _joined(steps[step], config) if step in steps else config
    keys = dict.fromkeys(key for part in parts for key in part.keys)
    common = dict(set.intersection(*(set(part.tags.items()) for part in parts))) if parts else {}
    whole = Part(list(keys), steps, common)
    return dg.define_asset_job(
        name,
        dg.AssetSelection.assets(*whole.keys),
        config=whole.run_config,
        description=description,
        run_tags=whole.tags,
        executor_def=project.executor,
    )


def scheduled(
    job: dg.UnresolvedAssetJobDefinition, cron: str, parts: Sequence[Part], project: Project
) -> dg.ScheduleDefinition:
    """Return the schedule with the name of the job. It requests one run for each part."""

    def requests(_context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for number, part in enumerate(parts):
            yield dg.RunRequest(
                run_key=str(number),  # unique among the runs of one tick
                asset_selection=list(part.keys),
                asset_check_keys=part.check_keys,
                run_config=part.run_config,
                tags=part.tags,
            )

    return dg.ScheduleDefinition(
        name=job.name,
        cron_schedule=cron,
        execution_timezone="UTC",
        job=job,
        description=job.description,
        default_status=project.schedule_status,
        execution_fn=requests if len(parts) > 1 or parts[0].check_keys is not None else None,
    )


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Join two configs of a step: lists are appended, anything else is the same in both."""
    return {key: [*value, *other[key]] if isinstance(value, list) else value for key, value in one.items()}

"""The forkserver of a run loads the definitions once, and the processes of the steps do not load them again."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster.components.core import package_entry

from aurora_sync.orchestration.preload import HANDED_OVER, _HandsOverDefinitions, forking_executor, load_handed_over_job

PROJECT = """\
from pathlib import Path

import dagster as dg

@dg.asset
def one() -> None: ...

@dg.definitions
def defs() -> dg.Definitions:
    with Path({loads!r}).open("a") as file:
        file.write("loaded;")
    return dg.Definitions(assets=[one])
"""

FOLDER_PROJECT = """\
from pathlib import Path

import dagster as dg

@dg.definitions
def defs() -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def forget() -> None:
    ReconstructableJob.get_definition.cache_clear()
    ReconstructableJob.get_repository_definition.cache_clear()


@pytest.fixture
def job(tmp_path: Path) -> ReconstructableJob:
    project, loads = tmp_path / "project.py", tmp_path / "loads"
    project.write_text(PROJECT.format(loads=str(loads)), encoding="utf-8")
    return ReconstructableRepository.for_file(str(project), "defs").get_reconstructable_job("__ASSET_JOB")


def test_a_step_gets_the_definitions_that_the_forkserver_has_loaded(
    job: ReconstructableJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = job.repository.get_definition().repository_load_data
    seen: list[str] = []
    monkeypatch.setattr(ReconstructableJob, "get_definition", ReconstructableJob.get_definition)  # restored at the end

    class Processes:
        def execute(self, context: Any, plan: Any) -> Iterator[str]:
            before = (tmp_path / "loads").read_text(encoding="utf-8")
            forget()
            load_handed_over_job()  # in the forkserver
            step: ReconstructableJob = pickle.loads(pickle.dumps(context.reconstructable_job))
            step._hash = 1  # as another process computed it
            step.get_definition()
            step.with_repository_load_data(plan.repository_load_data).get_definition()
            yield (tmp_path / "loads").read_text(encoding="utf-8").removeprefix(before)
            seen.append(os.environ[HANDED_OVER])

    context, plan = SimpleNamespace(reconstructable_job=job), SimpleNamespace(repository_load_data=data)
    job.with_repository_load_data(data).get_definition()
    executor = _HandsOverDefinitions(Processes())  # type: ignore[arg-type]
    assert list(executor.execute(context, plan)) == ["loaded;"]  # type: ignore[arg-type]
    assert not Path(seen[0]).exists()
    assert HANDED_OVER not in os.environ


def test_the_forkserver_does_not_import_the_components_of_all_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.dg.project]\nroot_module = 'shop'\n", encoding="utf-8")
    (tmp_path / "shop" / "defs").mkdir(parents=True)
    (tmp_path / "shop" / "defs" / "one.py").write_text("import dagster as dg\n@dg.asset\ndef one() -> None: ...\n")
    (tmp_path / "shop" / "definitions.py").write_text(FOLDER_PROJECT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ReconstructableJob, "get_definition", ReconstructableJob.get_definition)  # restored at the end
    imported: list[str] = []

    def entry_points() -> list[Any]:
        imported.append("all")
        return []

    monkeypatch.setattr(package_entry, "get_plugin_entry_points", entry_points)
    project = ReconstructableRepository.for_module("shop.definitions", "defs", working_directory=str(tmp_path))
    job = project.get_reconstructable_job("__ASSET_JOB")
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    monkeypatch.setenv(HANDED_OVER, str(tmp_path / "job"))
    forget()
    load_handed_over_job()
    assert imported == []
    job.repository.get_definition()
    assert imported == ["all"]  # in any other process


def test_the_executor_has_the_name_and_the_requirements_of_the_one_that_it_extends() -> None:
    executor = forking_executor()
    assert executor.name == "multiprocess"
    assert len(executor.get_requirements({})) == 3

"""The code location on Kubernetes: a run is a pod, and each step of a load in chunks is a pod as well."""

from pathlib import Path

import dagster as dg
from dagster_k8s import k8s_job_executor

from aurora_sync.config.loader import load
from aurora_sync.orchestration.factory import build_definitions, executor
from aurora_sync.orchestration.project import Executors
from aurora_sync.orchestration.resources import Connections

connections = Connections()

defs = dg.Definitions.merge(
    build_definitions(load(Path("tables.yaml")), connections, executor=Executors(load=k8s_job_executor)),
    dg.Definitions(executor=executor(connections)),
)

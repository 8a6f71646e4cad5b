"""Materialize all assets of the project in one run, and print as JSON what Dagster recorded. Runs in the project's own
virtual environment."""

import json
from importlib import import_module

import dagster as dg

definitions: dg.Definitions = import_module("shop.definitions").defs
graph = definitions.resolve_asset_graph()
result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
    instance=dg.DagsterInstance.ephemeral(),
    asset_selection=[*graph.materializable_asset_keys],
    raise_on_error=False,
)
materialized = [event.asset_key for event in result.all_events if event.is_step_materialization]
recorded = {
    "success": result.success,
    "materialized": [key.to_user_string() for key in materialized if key],
    "upstream": [key.to_user_string() for key in graph.get(dg.AssetKey("customers_per_city")).parent_keys],
    "checks": {
        f"{check.asset_key.to_user_string()} {check.check_name}": check.passed
        for check in result.get_asset_check_evaluations()
    },
}
print(json.dumps(recorded))

"""A dbt project whose source is a synced table, in one graph and one run with the sync."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aurora_sync_tests.orchestration.conftest import Execute

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]

pytestmark = [pytest.mark.long, pytest.mark.closes_warehouse]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a virtual environment with this package and the pinned packages of dbt."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed beside this Python; make .venv/.dev installs it")
    folder = tmp_path_factory.mktemp("dbt") / "venv"
    wanted = ["-r", "requirements.txt", "--override", "overrides.txt", f"{REPOSITORY}[embedded]"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    installed = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *wanted],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"the packages of requirements.txt cannot be installed: {installed.stderr.strip()}")
    return folder / "bin" / "python"


@pytest.fixture
def materialized(
    python: Path,
    dsn: str,
    store_environment: dict[str, str],
    warehouse_path: Path,
    tmp_path: Path,
    execute: Execute,
) -> dict[str, Any]:
    """Return what Dagster recorded of one run of all assets of the project."""
    execute("""
        CREATE TABLE customers (id int PRIMARY KEY, city text);
        INSERT INTO customers VALUES (1, 'Bern'), (2, 'Bern'), (3, 'Chur');
    """)
    project = tmp_path / "project"
    shutil.copytree(HERE / "project", project)
    environment = os.environ | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "CRM_DSN": dsn,
        "CRM_STAGE": store_environment["AURORA_SYNC_STAGE"],
        "CRM_WAREHOUSE": str(warehouse_path),
        "DAGSTER_IS_DEV_CLI": "1",  # as in `dg dev`, the component parses the dbt project by itself
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    ran = subprocess.run(
        [python, HERE / "materialize.py"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert found["success"], ran.stderr
    return found


def test_model_is_built_and_tested_from_the_synced_table_in_the_same_run(
    materialized: dict[str, Any], warehouse_path: Path
) -> None:
    assert materialized["materialized"] == ["crm/customers", "customers_per_city"]
    assert materialized["upstream"] == ["crm/customers"]
    tests = {name: passed for name, passed in materialized["checks"].items() if name.startswith("customers_per_city ")}
    assert tests == {
        "customers_per_city not_null_customers_per_city_city": True,
        "customers_per_city unique_customers_per_city_city": True,
    }
    assert materialized["checks"]["crm/customers row_count"] is True
    with duckdb.connect(str(warehouse_path), read_only=True) as warehouse:
        rows = warehouse.execute("SELECT city, customers FROM marts.customers_per_city ORDER BY city").fetchall()
    assert rows == [("Bern", 2), ("Chur", 1)]

"""The backend that the settings name is the only one that is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aurora_sync.config.backends.duckdb import DuckDBSettings
from aurora_sync.config.settings import Settings
from aurora_sync.errors import ConfigError
from aurora_sync.warehouse.connect import warehouse_from


@pytest.mark.parametrize("package", ["duckdb", "sqlglot"])
def test_a_backend_without_its_package_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "aurora_sync.warehouse.duckdb", raising=False)
    settings = Settings(dsn="", stage="s3://bucket", warehouse=DuckDBSettings(Path("w.duckdb")))
    with pytest.raises(ConfigError) as caught:
        warehouse_from(settings)
    assert str(caught.value) == (
        f"the package {package} of the extra 'embedded' is not installed (pip install 'aurora-sync[embedded]')"
    )


def test_snowflake_is_chosen_without_the_other_backend() -> None:
    program = (
        "import sys; from aurora_sync.config.settings import Settings;"
        "from aurora_sync.config.backends.snowflake import SnowflakeSettings;"
        "from aurora_sync.warehouse.connect import warehouse_from;"
        "login = SnowflakeSettings('w', 'd', 's', {'password': 'secret'}, account='a', user='u');"
        "print(warehouse_from(Settings(dsn='', stage='s3://bucket', warehouse=login)).describe(),"
        " {'duckdb', 'sqlglot', 'snowflake.connector'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "snowflake:a/d set()\n"

"""The statements that create what a sync needs in Snowflake, and grant it to the role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.model.names import fold
from aurora_sync.warehouse.ddl import identifier, literal

DEFAULT_ROLE = "AURORA_SYNC"


def quoted_name(setting: str) -> str:
    """Return the quoted identifier of a name in a setting. Snowflake reads it like an unquoted identifier, so letters
    are upper case, unless the setting has quotes itself.

    >>> quoted_name("legacy"), quoted_name('"legacy"')
    ('"LEGACY"', '"legacy"')
    """
    return setting if setting.startswith('"') else identifier(fold(setting))


@dataclass(frozen=True)
class Grants:
    """Statements for one account, without a semicolon. ``role`` is the name that the statements grant to."""

    settings: SnowflakeSettings
    stage_url: str
    role: str = ""

    @property
    def to_role(self) -> str:
        return f"TO ROLE {self.quoted_role}"

    @property
    def quoted_role(self) -> str:
        return quoted_name(self.role or self.settings.role or DEFAULT_ROLE)

    @property
    def database(self) -> str:
        return quoted_name(self.settings.database)

    @property
    def warehouse(self) -> str:
        return quoted_name(self.settings.warehouse)

    def schema(self, name: str) -> str:
        return f"{self.database}.{identifier(name)}"

    def stage(self, setting: str) -> tuple[str, str]:
        """Return the schema and the name of a stage, both qualified. A session begins in the schema PUBLIC of the
        database."""
        parts = [quoted_name(part) for part in setting.split(".")]
        database, schema, name = [self.database, '"PUBLIC"'][: 3 - len(parts)] + parts
        return f"{database}.{schema}", f"{database}.{schema}.{name}"

    def on_warehouse(self) -> str:
        return f"GRANT USAGE ON WAREHOUSE {self.warehouse} {self.to_role}"

    def on_database(self) -> str:
        return f"GRANT USAGE ON DATABASE {self.database} {self.to_role}"

    def create_schema(self, name: str) -> str:
        return f"CREATE SCHEMA IF NOT EXISTS {self.schema(name)}"

    def on_schema(self, name: str) -> str:
        return f"GRANT USAGE, CREATE TABLE ON SCHEMA {self.schema(name)} {self.to_role}"

    def on_stage(self, setting: str) -> tuple[str, str]:
        schema, stage = self.stage(setting)
        return f"GRANT USAGE ON SCHEMA {schema} {self.to_role}", f"GRANT USAGE ON STAGE {stage} {self.to_role}"

    def create_stage(self, integration: str = DEFAULT_ROLE) -> str:
        _, stage = self.stage(self.settings.stage)
        return (
            f"CREATE STAGE IF NOT EXISTS {stage} URL = {literal(self.stage_url)}"
            f" STORAGE_INTEGRATION = {quoted_name(integration)}"
        )

    def move_stage(self) -> str:
        return f"ALTER STAGE {self.stage(self.settings.stage)[1]} SET URL = {literal(self.stage_url)}"

    def keep_ownership(self, schema: str) -> str:
        return f"GRANT OWNERSHIP ON FUTURE TABLES IN SCHEMA {self.schema(schema)} {self.to_role}"

    def on_history(self) -> str:
        return read_history(self.quoted_role)

    def limit_statements(self) -> str:
        return f"ALTER WAREHOUSE {self.warehouse} SET STATEMENT_TIMEOUT_IN_SECONDS = {self.settings.statement_timeout}"


def read_history(quoted_role: str) -> str:
    """Return the statement that lets a role read QUERY_HISTORY and QUERY_ATTRIBUTION_HISTORY. Source: Snowflake's
    documentation, "SNOWFLAKE database roles"."""
    return f"GRANT DATABASE ROLE SNOWFLAKE.GOVERNANCE_VIEWER TO ROLE {quoted_role}"


def terminated(statements: Iterable[str]) -> str:
    return " ".join(f"{statement};" for statement in statements)

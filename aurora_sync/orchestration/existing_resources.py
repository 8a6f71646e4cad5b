"""Use resources that a Dagster project already has: dagster-snowflake's SnowflakeResource and dagster-aws's S3Resource.

The packages are not imported: their resources are used through the fields that they document.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.errors import ConfigError
from aurora_sync.objects.store import Store

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource
    from dagster_snowflake import SnowflakeResource

# Fields of SnowflakeResource that log in, and their names in SnowflakeSettings.login.
_LOGIN = {
    "password": "password",
    "private_key": "private_key",
    "private_key_path": "private_key_path",
    "private_key_password": "private_key_passphrase",
    "authenticator": "authenticator",
}


def snowflake_settings(resource: SnowflakeResource, *, stage: str, dms_stage: str | None = None) -> SnowflakeSettings:
    """Return settings with the account, the login, the role, the warehouse and the database of a SnowflakeResource.

    ``stage`` is what SNOWFLAKE_STAGE would be. Session parameters and time limits are those of aurora_sync, because
    its statements rely on them. Raises ConfigError when the resource names no warehouse or no database.
    """
    given = resource.process_config_and_initialize()  # replaces each EnvVar by its value
    missing = [name for name in ("warehouse", "database") if getattr(given, name) is None]
    if missing:
        raise ConfigError(
            f"the SnowflakeResource has no {' and no '.join(missing)}",
            hint=f"set {' and '.join(missing)} of the resource",
        )
    login = {name: value for field, name in _LOGIN.items() if (value := getattr(given, field)) is not None}
    more: dict[str, Any] = given.additional_snowflake_connection_args or {}
    return SnowflakeSettings(
        warehouse=given.warehouse,
        database=given.database,
        stage=stage,
        login={**login, **more},
        account=given.account,
        user=given.user,
        role=given.role,
        dms_stage=dms_stage,
    )


def s3_store(resource: S3Resource, url: str) -> Store:
    """Return the store of ``s3://bucket/prefix`` that uses the region, the endpoint and the credentials of an
    S3Resource. Raises ConfigError for any other form of ``url``."""
    store = Store.from_url(url)
    return _StoreOfResource(store.bucket, store.prefix, resource)


class _StoreOfResource(Store):
    def __init__(self, bucket: str, prefix: str, resource: S3Resource) -> None:
        super().__init__(bucket, prefix)
        self._resource = resource

    @cached_property
    def _client(self) -> Any:
        return self._resource.process_config_and_initialize().get_client()

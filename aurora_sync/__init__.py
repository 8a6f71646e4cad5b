"""Incremental sync of PostgreSQL tables, through S3, into Snowflake. Read :mod:`aurora_sync.engine.sync` first."""


def __getattr__(name: str) -> object:
    """``aurora_sync.AuroraSync``, the Dagster component: imported when Dagster asks, the core does without."""
    if name == "AuroraSync":
        from aurora_sync.orchestration.component import AuroraSync

        return AuroraSync
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "AuroraSync"]

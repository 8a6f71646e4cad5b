"""Incremental sync of PostgreSQL tables, through S3, into Snowflake. Read :mod:`aurora_sync.sync` first."""

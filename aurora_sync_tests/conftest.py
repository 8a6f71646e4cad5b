"""The fixtures that all tests share, one subject a file."""

pytest_plugins = [
    "aurora_sync_tests.fixtures.local_stack",
    "aurora_sync_tests.fixtures.source_database",
    "aurora_sync_tests.fixtures.object_store",
    "aurora_sync_tests.fixtures.duckdb_warehouse",
    "aurora_sync_tests.fixtures.fakesnow_server",
    "aurora_sync_tests.fixtures.private_server",
    "aurora_sync_tests.fixtures.wrapped_cluster",
]

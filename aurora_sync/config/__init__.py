"""Reading and validation of tables.yaml and of the environment; the resulting values are always valid."""

"""tables.yaml and the environment: read, checked, and turned into values that are valid or do not exist."""

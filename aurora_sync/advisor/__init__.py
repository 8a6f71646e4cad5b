"""Recommend a sync strategy for each table, from the catalogue and the statistics of the source."""

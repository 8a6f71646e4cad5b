"""The frozen values that the packages exchange, and the glossary of the project.

=============== =====================================================================================================
watermark       the state from which a strategy resumes; a small versioned JSON document
decided         property of a transaction: it has committed or rolled back
horizon         ``pg_snapshot_xmin`` of the snapshot that was read: every transaction below it is decided
identity token  facts that prove that the source is still the database from which the watermark was taken
increment       the rows that one run moves for one table
disposition     how the target applies the rows: UPSERT, APPEND, REPLACE, CHANGES
load id         unique per attempt; in the S3 path, the staging table's name and the query tag
manifest        the S3 object that commits an attempt's files
receipt         the report of what one run did for one table
run sequence    the number of applied increments of a table; compare-and-set on it fences overlapping runs
=============== =====================================================================================================

All transaction ids are 64-bit integers (epoch included), all times are timezone-aware UTC, all byte counts are bytes,
all durations are seconds.
"""

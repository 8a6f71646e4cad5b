"""The values that travel between the rooms: frozen, and the glossary of the project.

=============== =====================================================================================================
watermark       what a strategy must remember to resume; a small versioned JSON document
horizon         ``pg_snapshot_xmin`` of the snapshot that was read: every transaction id below it is decided
identity token  what proves that today's source is the database the watermark came from
increment       the rows that one run moves for one table
disposition     what the rows mean to the target: UPSERT, APPEND, REPLACE, CHANGES
load id         unique per attempt; in the S3 path, the staging table's name and the query tag
manifest        the S3 object that commits an attempt's files
receipt         what an applied increment did
run sequence    the number of applied increments of a table; compare-and-set on it fences overlapping runs
=============== =====================================================================================================

All transaction ids are 64-bit integers (epoch included), all times are timezone-aware UTC, all byte counts are bytes,
all durations are seconds.
"""

"""What the files of an AWS DMS task have beside the table's columns, and how they spell what is no value: what
provisioning/dms_task.py configures, and everybody who reads them relies on."""

OP = "Op"  # I, U, D; I in a full load
SEQUENCE = "dms_change_seq"  # grows with every change of a task; empty in a full load
TIMESTAMP = "dms_timestamp"  # commit of the change, or transfer of the row
BEFORE = "dms_before_"  # of a column of the primary key: what an update found there

# In CSV: NULL, and a value that the log did not repeat. No text is the one or the other.
NULL = "dms.null.7be41f02a95c"
UNCHANGED = "dms.unchanged.7be41f02a95c"

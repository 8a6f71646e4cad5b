"""The columns that an AWS DMS task adds to its files, and the texts that stand for NULL and for an unchanged value.

provisioning/dms_task.py configures the task so; every reader of the files relies on it.
"""

OP = "Op"  # I, U, D; I in a full load
SEQUENCE = "dms_change_seq"  # grows with every change of a task; empty in a full load
TIMESTAMP = "dms_timestamp"  # time of the change's commit, or of the row's transfer in a full load
BEFORE = "dms_before_"  # prefix of a primary key column: its value before an update

# In CSV: NULL, and a value that the log did not repeat. The random digits keep both apart from real values.
NULL = "dms.null.7be41f02a95c"
UNCHANGED = "dms.unchanged.7be41f02a95c"

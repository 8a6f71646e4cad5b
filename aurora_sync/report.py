"""Results as text for people; the numbers themselves are in the values."""

from __future__ import annotations

from aurora_sync.increment import Receipt


def receipt_line(receipt: Receipt) -> str:
    """What one run did for one table, in columns: table, run, rows read and how, changes, rows now, seconds."""
    if receipt.changed:
        what = f"run {receipt.run_sequence}"
        changes = f"+{receipt.inserted:,} ~{receipt.updated:,} -{receipt.deleted:,}"
    else:
        what, changes = "idle", "nothing new"
    read = f"{receipt.rows_exported:,} read by {receipt.method}"
    return (
        f"{receipt.table:<26} {what:<8} {read:<40} {changes:<22}"
        f" {receipt.target_rows:>12,} rows  {receipt.seconds['total']:.1f} s"
    )

"""The text of a receipt, which fits the width of the terminal."""

from __future__ import annotations

import sys

from aurora_sync.cli.printing import Alert
from aurora_sync.cli.terminal import columns
from aurora_sync.engine.report import receipt_lines
from aurora_sync.model.receipt import Receipt

# The usual width of the first line of a receipt. Narrower terminals get two lines, so that columns stay aligned.
_ONE_LINE = 132


def receipt_text(receipt: Receipt) -> list[str]:
    first, *more = receipt_lines(receipt)
    width = columns(sys.stdout)
    lines = [first] if width is None or width >= _ONE_LINE else _narrow(receipt)
    unequal = receipt.verification and not receipt.verification.equal
    return lines + [Alert(line) if unequal and line.startswith("  DIFFERENT") else line for line in more]


def _narrow(receipt: Receipt) -> list[str]:
    what, changes = "idle", "nothing new"
    if receipt.changed:
        what = f"run {receipt.run_sequence}"
        changes = f"+{receipt.inserted:,} ~{receipt.updated:,} -{receipt.deleted:,}"
    return [
        f"{receipt.table:<24} {what:<7} {changes:<20} {receipt.target_rows:>10,} rows"
        f" {receipt.seconds['total']:>5.1f} s",
        f"  {receipt.rows_exported:,} read by {receipt.method}",
    ]

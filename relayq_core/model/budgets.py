"""Budgets in bytes. Together with the payload they stay far below DynamoDB's 400 KB, so no settle fails on size."""

from __future__ import annotations

PAYLOAD_BYTES = 300_000

RESULT_BYTES = 32_768

ERROR_BYTES = 8_192

ERROR_LINE_BYTES = 500

#: What the list of failed jobs shows of an error: its first bytes.
ERROR_HEAD_BYTES = 200

ERRORS_KEPT = 5

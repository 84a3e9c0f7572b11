"""Tracing without an SDK: read which X-Ray trace a job is dispatched in from the variable that Lambda sets."""

from __future__ import annotations

import os
import re

#: The variable that Lambda sets for each invocation: `Root=1-67891233-abcdef012345678912345678;Parent=...;Sampled=1`.
_VARIABLE = "_X_AMZN_TRACE_ID"
_TRACE = r"1-[0-9a-f]{8}-[0-9a-f]{24}"
#: Only the root is read: the rest of the header is about one hop, and may have any length.
_ROOT = re.compile(rf"(?:^|;)\s*Root=({_TRACE})\s*(?:;|$)", re.ASCII)
_LONGEST_HEADER = 500


def read_trace() -> str | None:
    """Return the id of this process's current trace; None outside Lambda, or if the variable is malformed."""
    header = os.environ.get(_VARIABLE)
    match = _ROOT.search(header[:_LONGEST_HEADER]) if header else None
    return match[1] if match else None


def is_trace(text: str) -> bool:
    """Whether the text is the id of a trace."""
    return re.fullmatch(_TRACE, text, re.ASCII) is not None

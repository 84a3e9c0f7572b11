"""Tracing without an SDK: which trace of X-Ray a job was dispatched in, as Lambda tells it to each invocation."""

from __future__ import annotations

import os
import re

#: Where Lambda says it: `Root=1-67891233-abcdef012345678912345678;Parent=...;Sampled=1`.
_VARIABLE = "_X_AMZN_TRACE_ID"
_TRACE = r"1-[0-9a-f]{8}-[0-9a-f]{24}"
#: The rest of the header is about one hop, and has no bound.
_ROOT = re.compile(rf"(?:^|;)\s*Root=({_TRACE})\s*(?:;|$)", re.ASCII)
_LONGEST_HEADER = 500


def read_trace() -> str | None:
    """The id of the trace that this process works in right now; None outside Lambda, or where it makes no sense."""
    header = os.environ.get(_VARIABLE)
    found = _ROOT.search(header[:_LONGEST_HEADER]) if header else None
    return found[1] if found else None


def is_trace(text: str) -> bool:
    """Whether this is the id of a trace."""
    return re.fullmatch(_TRACE, text, re.ASCII) is not None

"""Read the journal of the embedded stack: what its functions log about which job, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: level, message, and fields such as the job it is about. A bare `print` has level ""."""

    function: str
    level: str
    message: str
    fields: dict[str, Any]

    @property
    def job_id(self) -> str | None:
        """The id of the job it is about."""
        job_id = self.fields.get("job_id")
        return job_id if isinstance(job_id, str) else None


class Journal:
    """Log files, each named after its function; reads every line once."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._read_to = dict.fromkeys(logs, 0)

    def read_new(self) -> Iterator[Entry]:
        """Yield the whole lines that were written since the last call."""
        for log in self._read_to:
            for line in self._read_lines(log):
                if (entry := _parse_entry(log.stem, line)) is not None:
                    yield entry

    def _read_lines(self, log: Path) -> list[str]:
        try:
            with log.open("rb") as file:
                file.seek(self._read_to[log])
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read_to[log] += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


def _parse_entry(function: str, line: str) -> Entry | None:
    """Return the entry of a line; None for metrics and empty lines."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not ({"message", "_aws"} & fields.keys()):
        return Entry(function, "", line, {}) if line.strip() else None
    if "_aws" in fields:
        return None
    return Entry(function, str(fields.get("level", "")), str(fields["message"]), fields)

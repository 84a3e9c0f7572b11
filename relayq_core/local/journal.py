"""The journal of the embedded stack: what its functions log, line by line, as what happened to which job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: the logger's level and message, and the fields of the job it is about; a bare `print` has level ""."""

    function: str
    level: str
    message: str
    fields: dict[str, Any]

    @property
    def job_id(self) -> str | None:
        """The job it is about."""
        found = self.fields.get("job_id")
        return found if isinstance(found, str) else None


class Journal:
    """Log files of functions, each named after one; every line is read once."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._read_to = dict.fromkeys(logs, 0)

    def new(self) -> Iterator[Entry]:
        """What was written since the last time, whole lines only."""
        for log in self._read_to:
            for line in self._lines(log):
                if (entry := _entry(log.stem, line)) is not None:
                    yield entry

    def _lines(self, log: Path) -> list[str]:
        try:
            with log.open("rb") as file:
                file.seek(self._read_to[log])
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read_to[log] += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


def _entry(function: str, line: str) -> Entry | None:
    """None for metrics and empty lines."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not ({"message", "_aws"} & said.keys()):
        return Entry(function, "", line, {}) if line.strip() else None
    if "_aws" in said:
        return None
    return Entry(function, str(said.get("level", "")), str(said["message"]), said)

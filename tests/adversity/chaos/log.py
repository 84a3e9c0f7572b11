"""The append-only log of the handlers, read while it is written."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a handler said, when (seconds of the machine's monotonic clock, and epoch milliseconds), and where."""

    kind: str
    number: str
    pid: int
    mono: float
    wall: int
    job: str = ""
    attempt: int = 0
    nonce: str = ""
    how: str = ""
    error: str = ""
    child: str = ""
    queue: str = ""
    #: the process group of the emulator and all its Lambdas
    group: int = 0


_FIELDS = frozenset(field.name for field in fields(Line))


@dataclass
class Start:
    """One start of a handler, with all its lines."""

    lines: list[Line] = field(default_factory=list)

    @property
    def first(self) -> Line:
        """When it began."""
        return self.lines[0]

    @property
    def last(self) -> Line:
        """When it was last seen alive."""
        return self.lines[-1]

    @property
    def ended(self) -> Line | None:
        """How the handler ended, if it came so far."""
        return self.last if self.last.kind == "end" else None

    @property
    def is_running(self) -> bool:
        """As far as the log knows: a killed one says no more."""
        return self.last.kind not in {"end", "dies"}


class Log:
    """The lines so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._offset = 0
        self._lock = threading.Lock()

    def read(self) -> list[Line]:
        """All whole lines that have been written until now."""
        with self._lock:
            if self.path.exists():
                with self.path.open("rb") as file:
                    file.seek(self._offset)
                    whole, _, _ = file.read().rpartition(b"\n")
                if whole:
                    self._offset += len(whole) + 1
                    read = [_line(text) for text in whole.split(b"\n") if text]
                    self.lines += [line for line in read if line is not None]
            return list(self.lines)

    def starts(self) -> list[Start]:
        """All starts of handlers until now, in their order."""
        return starts_of(self.read())


def starts_of(lines: list[Line]) -> list[Start]:
    """The lines of handlers, put together start by start."""
    found: dict[str, Start] = defaultdict(Start)
    for line in lines:
        if line.nonce:
            found[line.nonce].lines.append(line)
    return list(found.values())


def _line(text: bytes) -> Line | None:
    """None where the writer was killed in the middle of it: at the edge of a page a write can be cut short."""
    try:
        said: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return Line(**{name: value for name, value in said.items() if name in _FIELDS})

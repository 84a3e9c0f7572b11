"""Watching what is written where everybody can read it."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

#: What botocore says at DEBUG is all that is sent, by its own design.
_NOT_OURS = ("botocore", "boto3", "urllib3", "hypothesis", "asyncio")
_LOGGERS = ("", "relayq", "relayq.job", "jobs")
#: What logging itself notes of every record: times, threads and places, whose digits may look like anything.
_BY_LOGGING = frozenset(vars(logging.makeLogRecord({}))) - {"name"}


class _Listener(logging.Handler):
    """Keeps every line as the most talkative formatter would write it: with all extra fields and tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_NOT_OURS):
            return
        fields = {key: str(value) for key, value in vars(record).items() if key not in _BY_LOGGING}
        told = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self.lines.append(f"{record.getMessage()} {fields} {told}")


class Seen:
    """All that was logged and printed."""

    def __init__(self, listener: _Listener, printed: io.StringIO) -> None:
        self._listener = listener
        self._printed = printed

    @property
    def lines(self) -> list[str]:
        """The log lines."""
        return self._listener.lines

    def __str__(self) -> str:
        return "\n".join([*self.lines, self._printed.getvalue()])


@contextmanager
def everything_seen() -> Iterator[Seen]:
    """Inside, all loggers log at every level, and what is printed is kept."""
    listener = _Listener()
    before: list[tuple[logging.Logger, dict[str, Any]]] = []
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        before.append((logger, {"level": logger.level, "handlers": logger.handlers, "propagate": logger.propagate}))
        logger.handlers, logger.propagate = [listener], False
        logger.setLevel(logging.DEBUG)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield Seen(listener, printed)
    finally:
        for logger, state in before:
            logger.handlers, logger.propagate = state["handlers"], state["propagate"]
            logger.setLevel(state["level"])

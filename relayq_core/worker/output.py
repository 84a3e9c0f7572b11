"""Output: a worker writes through a thread of its own, so that a blocked output never holds up the worker."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

#: More lines than this are not kept for a blocked output; the ones after them are dropped.
_MOST_KEPT = 10_000


class OutputThread:
    """Calls one function after another, in a thread. A context manager, which waits at its end for `patience` seconds.

    Then an output that is still blocked is given up.
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        self._patience = patience
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue(_MOST_KEPT)
        self._thread = threading.Thread(target=self._run, name="relayq-output", daemon=True)
        #: what a write has raised: nothing reads the output any more
        self._error: Exception | None = None

    def __enter__(self) -> OutputThread:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(self._patience)

    @property
    def is_blocked(self) -> bool:
        """Whether a write is still blocked, after the end."""
        return self._thread.is_alive()

    def submit(self, write: Callable[[], object]) -> None:
        """Have `write` called soon. Raises what an earlier one has raised: nothing reads the output any more."""
        if self._error is not None:
            raise self._error
        try:
            self._waiting.put_nowait(write)
        except queue.Full:
            """The output has been blocked for long: jobs are more important than lines about them."""

    def _run(self) -> None:
        while (write := self._waiting.get()) is not None:
            try:
                write()
            except Exception as error:
                self._error = error


class ThreadedLogHandler(logging.Handler):
    """Writes log records by another handler, in an output thread."""

    def __init__(self, handler: logging.Handler, output: OutputThread) -> None:
        super().__init__(handler.level)
        self._handler = handler
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            self._output.submit(lambda: self._handler.handle(record))
        except Exception:
            self.handleError(record)

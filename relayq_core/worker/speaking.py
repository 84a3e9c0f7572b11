"""Speaking: what a worker says goes through a thread of its own, so that no blocked output holds the worker up."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

#: More than this is not kept for an output that is blocked; what comes then is not said.
_MOST_KEPT = 10_000


class Speaker:
    """Says one thing after another, in a thread. A context manager, which waits at its end, but not for ever.

    `patience`: how many seconds it waits there for an output that is blocked.
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        self._patience = patience
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue(_MOST_KEPT)
        self._thread = threading.Thread(target=self._speak, name="relayq-speaker", daemon=True)
        #: nobody listens any more
        self._error: Exception | None = None

    def __enter__(self) -> Speaker:
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
        """Something is still being said, after the end."""
        return self._thread.is_alive()

    def say(self, words: Callable[[], object]) -> None:
        """Have it called soon. Raises what an earlier one has raised: nobody listens any more."""
        if self._error is not None:
            raise self._error
        try:
            self._waiting.put_nowait(words)
        except queue.Full:
            """Its output has been blocked for long; the job goes before what is said of it."""

    def _speak(self) -> None:
        while (words := self._waiting.get()) is not None:
            try:
                words()
            except Exception as error:
                self._error = error


class SpokenLog(logging.Handler):
    """Writes what is logged by another handler, through a speaker."""

    def __init__(self, handler: logging.Handler, speaker: Speaker) -> None:
        super().__init__(handler.level)
        self._handler = handler
        self._speaker = speaker

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            self._speaker.say(lambda: self._handler.handle(record))
        except Exception:
            self.handleError(record)

"""Lasting loggers: RelayQ's own lines are written however a job's code configures logging.

`logging.config` disables every existing logger that its configuration does not name, unless that says otherwise, and
removes the handlers of those it names. RelayQ's loggers exist before a job's module is imported.
"""

from __future__ import annotations

import logging
import sys


class _Lasting(logging.Logger):
    """A logger that can be disabled by hand, but not by `logging.config`.

    Handlers that `logging.config` adds replace its own; if it adds none, its own stay.
    """

    #: the handlers that were added by hand
    own: list[logging.Handler]

    @property
    def disabled(self) -> bool:
        """Whether the logger is disabled; logging reads this before each line."""
        return bool(vars(self)["disabled"])

    @disabled.setter
    def disabled(self, value: bool) -> None:
        if not _is_called_by_config():
            vars(self)["disabled"] = value

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        """Add a handler; one that logging.config adds replaces those added by hand."""
        if _is_called_by_config():
            self.handlers = [handler for handler in self.handlers if handler not in self.own]
        elif hdlr not in self.own:
            self.own.append(hdlr)
        super().addHandler(hdlr)

    def removeHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        """Remove a handler; logging.config cannot remove one that was added by hand."""
        if not _is_called_by_config():
            self.own = [handler for handler in self.own if handler is not hdlr]
            super().removeHandler(hdlr)
        elif hdlr not in self.own:
            super().removeHandler(hdlr)
            self.handlers = self.handlers or list(self.own)


def _is_called_by_config() -> bool:
    return sys._getframe(2).f_globals.get("__name__") == "logging.config"


def make_lasting(name: str) -> logging.Logger:
    """Make the logger of this name lasting and return it: the same object that `logging.getLogger` returns."""
    logger = logging.getLogger(name)
    if not isinstance(logger, _Lasting):
        vars(logger)["own"] = list(logger.handlers)
        # its class may not be logging.Logger: tracing agents bring their own
        logger.__class__ = type("Logger", (_Lasting, type(logger)), {})
    return logger


def write_by(handler: logging.Handler, logger: logging.Logger) -> None:
    """Let a lasting logger, and the loggers below it, write through this handler only."""
    for other in list(logger.handlers):
        logger.removeHandler(other)
    logger.addHandler(handler)
    logger.propagate = False


logger = make_lasting("relayq")
#: What a handler logs with `context.logger`.
job_logger = make_lasting("relayq.job")

"""Loggers that last: a job's code may configure logging as it likes, and RelayQ's own lines are still written.

`logging.config` disables every logger that exists and that it is not given, unless it is asked not to, and takes the
handlers off those that it is given. RelayQ's loggers exist before a job's module is imported.
"""

from __future__ import annotations

import logging
import sys


class _Lasting(logging.Logger):
    """Who disables it by hand disables it; `logging.config` does not.

    Handlers that `logging.config` gives it stand in for its own; where it gives none, its own stay.
    """

    #: what was added by hand
    own: list[logging.Handler]

    @property
    def disabled(self) -> bool:
        """As logging asks before each line."""
        return bool(vars(self)["disabled"])

    @disabled.setter
    def disabled(self, value: bool) -> None:
        if not _is_called_by_config():
            vars(self)["disabled"] = value

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        """See logging.Logger."""
        if _is_called_by_config():
            self.handlers = [handler for handler in self.handlers if handler not in self.own]
        elif hdlr not in self.own:
            self.own.append(hdlr)
        super().addHandler(hdlr)

    def removeHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        """See logging.Logger."""
        if not _is_called_by_config():
            self.own = [handler for handler in self.own if handler is not hdlr]
            super().removeHandler(hdlr)
        elif hdlr not in self.own:
            super().removeHandler(hdlr)
            self.handlers = self.handlers or list(self.own)


def _is_called_by_config() -> bool:
    return sys._getframe(2).f_globals.get("__name__") == "logging.config"


def make_lasting(name: str) -> logging.Logger:
    """The logger of this name, which lasts from now on; it is the one that `logging.getLogger` answers with."""
    logger = logging.getLogger(name)
    if not isinstance(logger, _Lasting):
        vars(logger)["own"] = list(logger.handlers)
        # its class may be another's: agents for tracing bring their own
        logger.__class__ = type("Logger", (_Lasting, type(logger)), {})
    return logger


def write_by(handler: logging.Handler, logger: logging.Logger) -> None:
    """Let a lasting logger, and those below it, write by this handler and by no other."""
    for other in list(logger.handlers):
        logger.removeHandler(other)
    logger.addHandler(handler)
    logger.propagate = False


logger = make_lasting("relayq")
#: What a handler logs with `context.logger`.
job_logger = make_lasting("relayq.job")

"""RelayQ's loggers: whatever a job's module does with logging, they still write."""

from __future__ import annotations

import io
import logging
import logging.config
import re
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import relayq_core
from relayq_core.process.loggers import job_logger, logger, make_lasting, write_by

_ROOT = {"version": 1, "root": {"level": "INFO"}}
_FILE = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
level=INFO
handlers=
"""


def _of_a_file(text: str, after: dict[str, Any] | None = None) -> None:
    if after is not None:
        logging.config.dictConfig(after)
    parser = ConfigParser()
    parser.read_string(text)
    logging.config.fileConfig(parser)


CONFIGURED = {
    "nothing but a version": lambda: logging.config.dictConfig({"version": 1}),
    "a root": lambda: logging.config.dictConfig(_ROOT),
    "a root, and then a file": lambda: _of_a_file(_FILE, after=_ROOT),
    "said to disable": lambda: logging.config.dictConfig({**_ROOT, "disable_existing_loggers": True}),
    "other loggers": lambda: logging.config.dictConfig({**_ROOT, "loggers": {"django": {"level": "INFO"}}}),
    "relayq with a level": lambda: logging.config.dictConfig({**_ROOT, "loggers": {"relayq": {"level": "INFO"}}}),
    "relayq.job with a level": lambda: logging.config.dictConfig(
        {**_ROOT, "loggers": {"relayq.job": {"level": "INFO"}}}
    ),
    "by a file": lambda: _of_a_file(_FILE),
    "with force": lambda: logging.basicConfig(force=True, level="INFO"),
}


@contextmanager
def _as_it_was(name: str) -> Iterator[None]:
    one = logging.getLogger(name)
    before = {key: list(value) if isinstance(value, list) else value for key, value in vars(one).items()}
    try:
        yield
    finally:
        vars(one).update(before)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the handler writes that RelayQ gave its logger."""
    root = logging.root
    handlers, level = list(root.handlers), root.level
    with _as_it_was("relayq"), _as_it_was("relayq.job"):
        text = io.StringIO()
        write_by(logging.StreamHandler(text), logger)
        logger.setLevel(logging.INFO)
        yield text
    root.handlers, root.level = handlers, level
    for one in list(logging.root.manager.loggerDict.values()):
        if isinstance(one, logging.Logger):
            one.disabled = False


@pytest.mark.parametrize("configure", CONFIGURED.values(), ids=CONFIGURED)
def test_no_configuration_of_logging_silences_relayq(configure: Any, written: io.StringIO) -> None:
    """Most examples of dictConfig, and Django's LOGGING, leave `disable_existing_loggers` as it is: on."""
    configure()
    logger.info("job completed")
    job_logger.info("sent")
    assert written.getvalue() == "job completed\nsent\n"


def test_handlers_of_the_users_own_stand_in_for_relayqs(written: io.StringIO) -> None:
    """Who configures `relayq` by name gets its lines where they are wanted, once."""
    theirs = io.StringIO()
    config: dict[str, Any] = {
        "version": 1,
        "handlers": {"theirs": {"class": "logging.StreamHandler", "stream": theirs}},
        "loggers": {"relayq": {"handlers": ["theirs"], "level": "INFO"}},
    }
    for _ in range(2):
        logging.config.dictConfig(config)
        logger.info("job completed")
    assert (theirs.getvalue(), written.getvalue()) == ("job completed\n" * 2, "")
    logging.config.dictConfig(_ROOT | {"loggers": {"relayq": {"level": "INFO"}}})
    logger.info("job failed")
    assert written.getvalue() == "job failed\n"


def test_who_disables_it_by_hand_or_takes_its_handler_has_it_so(written: io.StringIO) -> None:
    """Only what logging's configuration does unasked is not done."""
    logger.disabled = True
    logger.error("unheard")
    logger.disabled = False
    handler = logger.handlers[0]
    logger.removeHandler(handler)
    assert handler not in logger.handlers
    logger.addHandler(handler)
    logger.error("heard")
    assert written.getvalue() == "heard\n"


def test_a_logger_of_an_agents_own_class_keeps_its_methods() -> None:
    """Agents for tracing replace the class of all loggers."""

    class Traced(logging.Logger):
        def traced(self) -> str:
            return "yes"

    former = logging.getLoggerClass()
    logging.setLoggerClass(Traced)
    try:
        theirs: Any = logging.getLogger("relayq_tests.traced")
    finally:
        logging.setLoggerClass(former)
    for _ in range(2):
        assert id(make_lasting("relayq_tests.traced")) == id(theirs)
    assert theirs.traced() == "yes"


def test_every_part_of_relayq_logs_by_a_logger_that_lasts() -> None:
    """One that is got from logging itself could be any."""
    sources = Path(relayq_core.__file__).parent.rglob("*.py")
    got = {path.name for path in sources if re.search(r'getLogger\("relayq', path.read_text())}
    assert got == set()

"""The functions as Lambda calls them: any event, and handlers that lay hands on the process they run in."""

from __future__ import annotations

import importlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relayq_core import api, job
from relayq_core.errors import InvalidOption
from relayq_core.handlers.lambda_events import parse_runner_event
from relayq_core.model.record import Status
from relayq_core.testing import MemoryStore, RecordingHandoff, isolated_registry
from tests.adversity.fuzz.evil import unharmed
from tests.adversity.fuzz.watching import everything_seen
from tests.support.lambda_context import Context

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_LAMBDA_FUNCTION_NAME": "runner",
    "RELAYQ_JOBS_TABLE": "jobs",
    "RELAYQ_FAILED_TABLE": "failed",
    "RELAYQ_JOB_MODULES": "tests.adversity.fuzz.no_jobs",
}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The runner's module, imported afresh; its tables are in memory."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    mine = [name for name in sys.modules if name.startswith("relayq_core.handlers.")]
    kept = {name: sys.modules.pop(name) for name in mine}
    monkeypatch.setitem(sys.modules, "tests.adversity.fuzz.no_jobs", ModuleType("no_jobs"))
    former = api.use(None)
    logger = logging.getLogger("relayq")
    state = (logger.handlers, logger.level, logger.propagate)
    # how Powertools knows a logger that it has given its handler
    marks: dict[str, Any] = {
        name: vars(logger).pop(name) for name in ("init", "powertools_handler") if name in vars(logger)
    }
    try:
        with isolated_registry():
            module = importlib.import_module("relayq_core.handlers.runner")
            module._relayq.store, module._relayq.handoff = MemoryStore(), RecordingHandoff()
            yield module
    finally:
        api.use(former)
        logger.handlers, logger.propagate = state[0], state[2]
        logger.setLevel(state[1])
        for name in ("init", "powertools_handler"):
            vars(logger).pop(name, None)
        vars(logger).update(marks)
        for name in [name for name in sys.modules if name.startswith("relayq_core.handlers.")]:
            del sys.modules[name]
        sys.modules.update(kept)


# --- events -----------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
handoffs = st.fixed_dictionaries(
    {"job_id": json_values | st.just("job-1")}, optional={"run_at": json_values, "name": json_values}
)


def _deep(levels: int) -> Any:
    found: Any = "bottom"
    for _ in range(levels):
        found = [found]
    return found


#: What must not be shown; long enough that no id and no time holds it by chance.
CARD = "4111 1111 1111 1111"

ODD: list[Any] = [
    {"job_id": _deep(900)},
    {"job_id": _deep(50_000)},
    {"job_id": "job-1", "run_at": _deep(50_000)},
    {"job_id": "x" * 6_000_000},
    {"job_id": {"card": CARD}},
    {"job_id": [CARD]},
    {"job_id": 10**5_000},
    {"job_id": "job-1", "run_at": 10**5_000},
    {"job_id": "job-1", "run_at": float("nan")},
    {"job_id": "job-1", "run_at": -1},
    {"job_id": "job-1", "run_at": True},
    {"job_id": "job-1\n"},
    {"job_id": "\udce9"},
    json.loads('{"job_id": "a", "job_id": "b\\u0000"}'),
    _deep(50_000),
    "job-1",
    b"job-1",
]


def _is_a_handoff_or_refused(event: Any) -> None:
    try:
        asked = parse_runner_event(event)
    except InvalidOption as error:
        told = str(error)
    else:
        assert (event["job_id"], event.get("run_at")) == (asked.job_id, asked.run_at)
        return
    assert len(told) < 500
    assert "\n" not in told
    assert CARD not in told


@given(json_values | handoffs)
@settings(max_examples=1_000, deadline=None)
def test_an_event_is_a_handoff_or_is_refused_in_words(event: Any) -> None:
    """Wherever it comes from: in one line, and without what was in it, for it may be a payload gone astray."""
    _is_a_handoff_or_refused(event)


@pytest.mark.parametrize("event", ODD, ids=range(len(ODD)))
def test_an_odd_event_is_refused_in_words(event: Any) -> None:
    """However deep, long or large."""
    unharmed(lambda: _is_a_handoff_or_refused(event))


def _claims_nothing(runner: ModuleType, event: Any) -> None:
    with everything_seen() as seen:
        answer = unharmed(lambda: runner.handler(event, Context()))
    assert answer.get("ended", "not claimed") == "not claimed"
    assert runner._relayq.store.jobs == {}
    assert all(len(line) < 5_000 for line in seen.lines)
    assert CARD not in str(seen)


@given(json_values | handoffs)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_whatever_the_event_the_runner_claims_nothing_that_is_not_there(runner: ModuleType, event: Any) -> None:
    """It answers, and the tables are as empty as before."""
    _claims_nothing(runner, event)


@pytest.mark.parametrize("event", ODD, ids=range(len(ODD)))
def test_an_odd_event_claims_nothing_either(runner: ModuleType, event: Any) -> None:
    """The log says little about it."""
    _claims_nothing(runner, event)


# --- handlers that lay hands on the process ---------------------------------------------------------------------


class _Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise RuntimeError("nothing can be written")

    def flush(self) -> None:
        raise RuntimeError("nothing can be written")


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "closed": _closed,
    "broken": _Broken,
    "not a stream": object,
    "strict ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"),
}


@pytest.mark.parametrize("names", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_handler_may_replace_what_is_written_to(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], stream: str
) -> None:
    """Its job is done, and so is the next: that the metrics cannot be written is no reason to fail."""

    @job
    def work(text: str) -> str:
        for name in names:
            monkeypatch.setattr(sys, name, STREAMS[stream]())
        return text

    job_ids = [runner._relayq.dispatch(work, {"text": "ünïcödé \u2028"}).job_id for _ in range(2)]
    answers = [unharmed(lambda job_id=job_id: runner.handler({"job_id": job_id}, Context())) for job_id in job_ids]  # type: ignore[misc]
    monkeypatch.undo()
    assert [answer["ended"] for answer in answers] == ["completed", "completed"]
    assert {record.status for record in runner._relayq.store.jobs.values()} == {Status.COMPLETED}


def test_a_handler_may_take_all_logging_away(runner: ModuleType) -> None:
    """Loggers without handlers, disabled, and a manager that raises."""

    @job
    def work() -> None:
        logging.disable(logging.CRITICAL)
        logging.getLogger("relayq").handlers.clear()
        logging.getLogger("relayq").addFilter(lambda record: False)

    job_id = runner._relayq.dispatch(work).job_id
    try:
        assert unharmed(lambda: runner.handler({"job_id": job_id}, Context()))["ended"] == "completed"
    finally:
        logging.disable(logging.NOTSET)
        logging.getLogger("relayq").filters.clear()


def test_a_handler_may_change_the_environment(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings were read at the start; what is set later holds for the next start."""

    @job
    def work() -> None:
        monkeypatch.setenv("RELAYQ_JOBS_TABLE", "elsewhere")
        monkeypatch.setenv("RELAYQ_NONSENSE", "1")
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "")

    for _ in range(2):
        job_id = runner._relayq.dispatch(work).job_id
        assert unharmed(lambda job_id=job_id: runner.handler({"job_id": job_id}, Context()))["ended"] == "completed"  # type: ignore[misc]


def test_a_handler_may_run_out_of_stack(runner: ModuleType) -> None:
    """The next handler has all of the stack again."""

    @job(max_attempts=1)
    def work(deep: bool) -> None:
        def deeper() -> None:
            deeper()

        if deep:
            deeper()

    ended = []
    for deep in (True, False):
        job_id = runner._relayq.dispatch(work, {"deep": deep}).job_id
        ended.append(unharmed(lambda job_id=job_id: runner.handler({"job_id": job_id}, Context()))["ended"])  # type: ignore[misc]
    assert ended == ["failed", "completed"]

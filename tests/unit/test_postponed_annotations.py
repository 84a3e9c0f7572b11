"""The same jobs in a module with postponed annotations, as many modules are: every annotation is a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

import relayq_core
from relayq_core import InvalidJob, InvalidPayload, Job, JobContext, JobRequest, job
from relayq_core import JobContext as Ctx
from relayq_core.jobs.registry import registry

if TYPE_CHECKING:
    from decimal import Decimal

CONTEXT = JobContext(
    job_id="job-1",
    name="send",
    queue="emails",
    attempt=1,
    max_attempts=3,
    deadline_ms=0,
    _now=lambda: 0,
    _report=lambda _: True,
)


def run(made: JobRequest) -> Any:
    """What the handler returns on the runner."""
    built, _ = registry[made.name].build(made.payload_json)
    return built.handle(lambda: CONTEXT)


class Address(BaseModel):
    """Part of a payload."""

    street: str


def test_the_context_is_known_by_every_name_it_is_imported_under() -> None:
    """Postponed annotations leave only the text of it."""

    @job
    def plain(context: JobContext, to: str) -> str:
        return context.job_id

    @job
    def renamed(context: Ctx, to: str) -> str:
        return context.job_id

    @job
    def dotted(context: relayq_core.JobContext, to: str) -> str:
        return context.job_id

    @job
    def quoted(context: "JobContext", to: str) -> str:  # noqa: UP037 - twice a text
        return context.job_id

    assert [run(made) for made in (plain.job("x"), renamed.job("x"), dotted.job("x"), quoted.job("x"))] == ["job-1"] * 4


def test_another_class_of_that_name_is_not_the_context() -> None:
    """What the name stands for in its module decides."""
    namespace: dict[str, Any] = {"__name__": "elsewhere", "job": job, "BaseModel": BaseModel}
    exec(
        "from __future__ import annotations\n"
        "class JobContext(BaseModel):\n"
        "    tenant: str\n"
        "@job\n"
        "def send(context: JobContext): return context.tenant\n",
        namespace,
    )
    assert run(namespace["send"].job({"tenant": "t"})) == "t"


def test_a_context_imported_for_type_checkers_only_is_known() -> None:
    """Linters move imports under TYPE_CHECKING that only annotations use."""
    namespace: dict[str, Any] = {"__name__": "elsewhere", "job": job}
    exec(
        "from __future__ import annotations\n"
        "@job\n"
        "def send(context: JobContext, to: str) -> NowhereToBeFound: return context.job_id\n",
        namespace,
    )
    assert run(namespace["send"].job("x")) == "job-1"


def test_types_of_the_payload_are_looked_up() -> None:
    """Models, constraints, containers and what is defined in this module."""

    @job
    def send(to: Address, many: list[Address], copies: Annotated[int, Field(gt=0)] = 1) -> Any:
        return to, many, copies

    home = Address(street="x")
    assert run(send.job(home, [home], copies=2)) == (home, [home], 2)
    with pytest.raises(InvalidPayload, match="field 'copies': Input should be greater than 0"):
        send.job(home, [], copies=0)


def test_a_type_of_the_payload_must_be_there_at_run_time() -> None:
    """pydantic needs it, so the sentence says what to do."""

    @job
    def pay(amount: Decimal) -> None: ...

    with pytest.raises(InvalidJob, match="pay: its annotation 'Decimal' cannot be resolved; import or define it at"):
        pay.job("1.10")  # type: ignore[arg-type]


def test_a_class_with_postponed_annotations_is_a_job_too() -> None:
    """pydantic looks its fields up by itself."""

    class Send(Job):
        to: Address
        copies: Annotated[int, Field(gt=0)] = 1

        def handle(self, context: JobContext) -> Any:
            return context.job_id, self.to

    made = Send(to=Address(street="x")).with_options(queue="vip")
    assert run(made) == ("job-1", Address(street="x"))

"""Python 3.14 evaluates annotations when asked: they may name what comes later, or what only checkers import."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any, ForwardRef

import pytest

from relayq_core import InvalidJob, InvalidPayload, Job, JobContext
from relayq_core.jobs.registry import registry
from relayq_core.jobs.signatures import get_text, list_parameters

#: Without `from __future__ import annotations`, which would make texts of them on every Python.
MODULE = """
from typing import TYPE_CHECKING, Annotated, Any
from pydantic import BaseModel, Field
from relayq_core import Job, job
if TYPE_CHECKING:
    import relayq_core
    from decimal import Decimal
    from relayq_core import JobContext
    from somewhere import Nowhere

@job
def plain(context: JobContext, to: str) -> str:
    return context.job_id

@job
def dotted(context: relayq_core.JobContext, to: str) -> Nowhere:
    return context.job_id

@job
def late(many: list[Later], one: Later, copies: Annotated[int, Field(gt=0)] = 1) -> Later:
    return many, one, copies

@job
def pay(amount: Decimal) -> None: ...

class Send(Job):
    to: Later
    def handle(self, context: JobContext) -> Nowhere:
        return context.job_id, self.to
    def failed(self, error: Nowhere) -> None: ...

class Later(BaseModel):
    street: str

def closure():
    class Inner(BaseModel):
        x: int
    @job
    def enclosed(one: Inner, many: list[Inner]) -> Any:
        return one, many
    return Inner, enclosed
"""

deferred = pytest.mark.skipif(sys.version_info < (3, 14), reason="before Python 3.14 such a module cannot be imported")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the module defines."""
    made = ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", made)  # pydantic looks its names up there
    exec(compile(MODULE, "elsewhere.py", "exec", dont_inherit=True), made.__dict__)
    return made.__dict__


def run(made: Any) -> Any:
    """What the handler returns on the runner."""
    context = JobContext(
        job_id="job-1",
        name=made.name,
        queue="emails",
        attempt=1,
        max_attempts=3,
        deadline_ms=0,
        _now=lambda: 0,
        _report=lambda _: True,
    )
    built, _ = registry[made.name].build(made.payload_json)
    return built.handle(lambda: context)


@deferred
def test_a_context_that_only_checkers_import_is_known(module: dict[str, Any]) -> None:
    """By its name, which is all there is; and what is returned need not be there at all."""
    assert run(module["plain"].job("x")) == "job-1"
    assert run(module["dotted"].job("x")) == "job-1"


@deferred
def test_a_payload_may_name_what_is_defined_further_down(module: dict[str, Any]) -> None:
    """It is there when the first job is dispatched."""
    later = module["Later"](street="x")
    assert run(module["late"].job([later], later, copies=2)) == ([later], later, 2)
    with pytest.raises(InvalidPayload, match="field 'copies': Input should be greater than 0"):
        module["late"].job([], later, copies=0)
    inner, enclosed = module["closure"]()
    assert run(enclosed.job(inner(x=1), [inner(x=2)])) == (inner(x=1), [inner(x=2)])


@deferred
def test_a_class_may_too(module: dict[str, Any]) -> None:
    """In its fields and in what its methods say of themselves."""
    made: Job = module["Send"](to=module["Later"](street="x"))
    assert run(made.with_options(queue="vip")) == ("job-1", module["Later"](street="x"))


@deferred
def test_a_type_of_the_payload_must_be_there_in_the_end(module: dict[str, Any]) -> None:
    """pydantic needs it, so the sentence says what to do."""
    with pytest.raises(InvalidJob, match="pay: its annotation 'Decimal' cannot be resolved; import or define it at"):
        module["pay"].job("1.10")


@pytest.mark.parametrize(
    ("annotation", "text"),
    [(ForwardRef("a.JobContext"), "a.JobContext"), ("'JobContext'", "JobContext"), (JobContext, None), (None, None)],
)
def test_an_annotation_without_a_value_is_known_by_how_it_is_written(annotation: Any, text: str | None) -> None:
    """On every Python: a forward reference, or a text."""
    assert get_text(annotation) == text


def test_parameters_are_those_of_the_signature() -> None:
    """Whatever becomes of their annotations."""

    def handler(first: int, *, second: str = "x") -> None: ...

    assert list_parameters(handler) == list(inspect.signature(handler).parameters.values())

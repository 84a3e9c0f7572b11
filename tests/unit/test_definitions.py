"""What is wrong with a definition is said where it stands, in words of jobs, by the job's name."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Optional, Union

import pytest
from pydantic import BaseModel, Field

import relayq_core
from relayq_core import InvalidJob, InvalidPayload, Job, JobContext, job
from relayq_core.jobs.registry import Registry, explain_unknown_payload, registry
from relayq_core.jobs.request import resolve_request

CONTEXT = JobContext(
    job_id="job-1",
    name="report",
    queue="default",
    attempt=1,
    max_attempts=3,
    deadline_ms=0,
    _now=lambda: 0,
    _report=lambda _: True,
)


def run(name: str, text: str = '{"n":1}') -> Any:
    """What the handler returns on the runner."""
    return registry[name].build(text)[0].handle(lambda: CONTEXT)


# --- the context of a function ---

ANNOTATIONS: list[Any] = [
    JobContext,
    JobContext | None,
    None | JobContext,
    Optional[JobContext],  # noqa: UP045
    Union[JobContext, None],  # noqa: UP007
    Annotated[JobContext, "mine"],
    Annotated[JobContext | None, "mine"],
    Annotated[JobContext, "mine"] | None,
    "JobContext",
    "'JobContext'",
    "JobContext | None",
    "None | JobContext",
    "'JobContext' | None",
    "Optional[JobContext]",
    "typing.Optional['JobContext']",
    "Union[JobContext, None]",
    "Annotated[JobContext, 'mine']",
    "Annotated[JobContext | None, Field(gt=1)] | None",
    "relayq_core.JobContext",
    "relayq_core.JobContext | None",
    "only.for_checkers.JobContext | None",
    Optional["JobContext"],
]
BY_ANNOTATION = pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
NAMED_BY_TEXTS = (relayq_core, typing, Field)


@BY_ANNOTATION
def test_the_context_may_be_optional_annotated_or_a_text(annotation: Any) -> None:
    """So that the function can be called without RelayQ."""

    def report(context: Any = None, n: int = 0) -> Any:
        return context, n

    report.__annotations__["context"] = annotation
    made = job(report)
    assert made(n=1) == (None, 1)
    assert made.job(n=1).payload == {"n": 1}
    assert run("report") == (CONTEXT, 1)
    assert explain_unknown_payload(registry["report"].build_schema()) is None


@BY_ANNOTATION
@pytest.mark.parametrize("keyword_only", [False, True])
def test_a_context_in_any_other_place_is_refused(annotation: Any, keyword_only: bool) -> None:
    """It would be a field of the payload that is None forever."""

    def last(n: int, context: Any = None) -> None: ...

    def keyword(*, context: Any = None, n: int = 0) -> None: ...

    function: Any = keyword if keyword_only else last
    function.__annotations__["context"] = annotation
    with pytest.raises(InvalidJob, match="the context comes first: make 'context' the first parameter"):
        job(function)


@pytest.mark.parametrize(
    "annotation",
    [JobContext | int, list[JobContext], "JobContext | dict[str, int]", "list[JobContext]", "dict[str, 'JobContext']"],
    ids=str,
)
def test_a_context_among_other_things_is_refused(annotation: Any) -> None:
    """No payload can hold it."""

    def report(context: Any, n: int) -> None: ...

    report.__annotations__["context"] = annotation
    with pytest.raises(InvalidJob, match="a JobContext cannot be stored: annotate 'context' JobContext"):
        job(report)


def test_a_context_without_an_annotation_is_refused_where_it_is_written() -> None:
    """At dispatch it would be missing."""

    def first(context, n: int) -> None: ...  # type: ignore[no-untyped-def]

    def last(n: int, context=None) -> None: ...  # type: ignore[no-untyped-def]

    for function in (first, last):
        with pytest.raises(InvalidJob, match="annotate 'context': `context: JobContext`, as the first parameter"):
            job(function)


# --- the context of a class ---


def test_handle_is_given_the_context_by_position() -> None:
    """However it is annotated, and whatever its default."""

    class Plain(Job):
        def handle(self, context=None) -> Any:  # type: ignore[no-untyped-def]
            return context

    class Typed(Job):
        def handle(self, context: JobContext | None = None) -> Any:
            return context

    assert run("Plain", "{}") is CONTEXT
    assert run("Typed", "{}") is CONTEXT


def test_a_handle_that_would_never_be_given_the_context_is_refused() -> None:
    """A keyword with a default is one that is left out."""
    with pytest.raises(InvalidJob, match=r"Keyword: the context is passed by position: handle\(self, context\)"):

        class Keyword(Job):
            def handle(self, *, context: JobContext | None = None) -> None: ...

    with pytest.raises(InvalidJob, match=r"Other: the context is passed by position: handle\(self, ctx\)"):

        class Other(Job):
            def handle(self, *, ctx: Optional[JobContext] = None) -> None: ...  # noqa: UP045


# --- what pydantic has against a class ---


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("queue", "emails", "class Mail(Job, queue='emails')"),
        ("name", "mail", "class Mail(Job, name='mail')"),
        ("max_attempts", 5, "class Mail(Job, max_attempts=5)"),
        ("timeout", 2.5, "class Mail(Job, timeout=2.5)"),
        ("backoff", [1, 2], "class Mail(Job, backoff=list)"),
        ("abstract", True, "class Mail(Job, abstract=True)"),
    ],
)
def test_an_option_in_the_body_is_shown_in_the_class_line(jobs: Registry, option: str, value: Any, says: str) -> None:
    """Other systems have it there."""
    with pytest.raises(InvalidJob) as raised:
        type("Mail", (Job,), {"__module__": __name__, option: value, "handle": lambda self: None})
    assert says in str(raised.value)
    assert not jobs


def test_what_pydantic_refuses_is_an_invalid_job(jobs: Registry) -> None:
    """The message has the job's name, and pydantic's own sentence without its link."""
    with pytest.raises(
        InvalidJob, match=r"job \S+Mail: A non-annotated attribute was detected: `user_id = 5`"
    ) as raised:

        class Mail(Job):
            user_id = 5  # type: ignore[pydantic-field]

            def handle(self) -> None: ...

    assert "errors.pydantic.dev" not in str(raised.value)

    class Thing:
        """pydantic knows nothing of it."""

    with pytest.raises(InvalidJob, match=r"job .*Odd: Unable to generate pydantic-core schema"):
        type("Odd", (Job,), {"__annotations__": {"x": Thing}, "__module__": __name__, "handle": lambda self: None})
    assert not jobs


def test_a_type_that_is_not_there_is_an_invalid_job_where_it_is_needed() -> None:
    """As for a function."""
    body = {"__annotations__": {"x": "NoSuchThing"}, "__module__": __name__, "handle": lambda self: None}
    late: Any = type("Late", (Job,), body)
    with pytest.raises(InvalidJob, match=r"job Late: .*NoSuchThing"):
        resolve_request(late, {"x": 1}, registry)


# --- an __init__ of its own ---


def test_an_init_that_the_runner_cannot_call_is_refused_where_it_is_written(jobs: Registry) -> None:
    """The runner makes the job again, of its fields."""
    with pytest.raises(InvalidJob, match="Welcome: its __init__ needs 'user', which is no field"):

        class Welcome(Job):
            user_id: int

            def __init__(self, user: Any) -> None:
                super().__init__(user_id=user["id"])  # type: ignore[call-arg]

            def handle(self) -> None: ...

    with pytest.raises(InvalidJob, match="Short: its __init__ does not take the field 'user_id'"):

        class Short(Job):
            user_id: int = 1

            def __init__(self) -> None:
                super().__init__()

            def handle(self) -> None: ...

    assert not jobs


def test_an_init_that_takes_the_fields_is_fine() -> None:
    """By their names, by their aliases, or all at once; and to_payload has its own way."""

    class Named(Job):
        user_id: int
        card: str = Field(default="x", alias="cardNumber")

        def __init__(self, user_id: int, cardNumber: str = "x") -> None:
            super().__init__(user_id=user_id, cardNumber=cardNumber)  # type: ignore[call-arg]

        def handle(self) -> Any:
            return self.user_id, self.card

    class All(Job):
        n: int

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)

        def handle(self) -> int:
            return self.n

    class Own(Job):
        n: int

        def __init__(self, other: int) -> None:
            super().__init__(n=other)  # type: ignore[call-arg]

        def to_payload(self) -> dict[str, int]:
            return {"n": self.n}

        @classmethod
        def from_payload(cls, data: Any) -> Own:
            return cls(data["n"])

        def handle(self) -> int:
            return self.n

    assert run("Named", resolve_request(Named(1, "y"), None, registry).payload_json) == (1, "y")
    assert run("All", resolve_request(All(n=1), None, registry).payload_json) == 1
    assert run("Own", resolve_request(Own(1), None, registry).payload_json) == 1


def test_an_init_that_raises_when_the_job_is_made_again_is_a_reason() -> None:
    """The error is RelayQ's, whatever the init raised."""

    class Once(Job):
        n: int

        def __init__(self, n: int) -> None:
            super().__init__(n=n)  # type: ignore[call-arg]
            if made:
                raise RuntimeError("hunter2")
            made.append(self)

        def handle(self) -> None: ...

    made: list[Any] = []
    with pytest.raises(InvalidPayload, match="reading it raises RuntimeError; a validator or an __init__") as raised:
        resolve_request(Once(1), None, registry)
    assert "hunter2" not in str(raised.value)


# --- schemas ---


class Client:
    """Something that JSON knows nothing of."""


def test_a_job_without_a_json_schema_says_why() -> None:
    """The rest of the registry is shown all the same."""

    @job
    def fetch(url: str, client: Client | None = None) -> None: ...

    @job
    def broken(x: NoSuchThing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    class Custom(Job):
        def to_payload(self) -> dict[str, Any]:
            return {}

        @classmethod
        def from_payload(cls, data: Any) -> Custom:
            return cls()

        def handle(self) -> None: ...

    assert "Cannot generate a JsonSchema" in str(explain_unknown_payload(registry["fetch"].build_schema()))
    assert "'NoSuchThing' cannot be resolved" in str(explain_unknown_payload(registry["broken"].build_schema()))
    assert explain_unknown_payload(registry["Custom"].build_schema()) == "the job writes and reads it by itself"


class Node(BaseModel):
    """Holds itself."""

    children: list[Node] = []


def test_a_job_that_holds_itself_has_its_fields_at_the_top() -> None:
    """Its schema is a reference, which forms and lists do not follow."""

    class Tree(Job):
        n: int
        below: list[Tree] = Field(default=[])
        node: Node | None = None

        def handle(self) -> None: ...

    Tree.model_rebuild(_types_namespace={"Tree": Tree, "Node": Node})
    schema = registry["Tree"].build_schema()
    assert schema["required"] == ["n"]
    assert set(schema["properties"]) == {"n", "below", "node"}


# --- frozen time ---


@pytest.mark.parametrize("postponed", [False, True])
def test_a_function_that_is_first_used_in_frozen_time_is_not_spoilt(postponed: bool) -> None:
    """pydantic knows no other datetime than Python's, and what is made then is kept."""
    freezegun = pytest.importorskip("freezegun")
    names: dict[str, Any] = {"__name__": "frozen_jobs"}
    source = (
        ("from __future__ import annotations\n" if postponed else "")
        + "import datetime as dt, dataclasses, sys, types\n"
        + "from datetime import date, datetime, time, timedelta\nfrom relayq_core import job\n"
        + "@dataclasses.dataclass\nclass Held:\n    when: datetime\n    day: dt.date\n"
        + "@job\ndef remind(when: datetime, day: date, at: time, span: timedelta, many: list[dt.datetime], held: Held)"
        + " -> object:\n    return when, day, at, span, many, held\n"
    )
    import sys
    from types import ModuleType

    module = ModuleType("frozen_jobs")
    sys.modules["frozen_jobs"] = module
    try:
        exec(compile(source, "frozen_jobs.py", "exec", dont_inherit=True), module.__dict__)
        names = module.__dict__
        _remind(names, freezegun)
    finally:
        del sys.modules["frozen_jobs"]


def _remind(names: dict[str, Any], freezegun: Any) -> None:
    import datetime as dt

    def args(now: dt.datetime) -> dict[str, Any]:
        day = now.date()
        return {
            "when": now,
            "day": day,
            "at": dt.time(12),
            "span": dt.timedelta(days=1),
            "many": [now],
            "held": names["Held"](now, day),
        }

    with freezegun.freeze_time("2027-03-01"):
        frozen = dt.datetime
        inside = names["remind"].job(**args(dt.datetime.now(dt.UTC)))
        assert dt.datetime is frozen  # it is put back
        assert not hasattr(frozen, "__get_pydantic_core_schema__")
    outside = names["remind"].job(**args(dt.datetime(2027, 3, 1, tzinfo=dt.UTC)))
    assert inside == outside
    when, day, _, _, many, held = run("remind", outside.payload_json)
    assert (type(when), type(day), type(many[0]), type(held.day)) == (dt.datetime, dt.date, dt.datetime, dt.date)

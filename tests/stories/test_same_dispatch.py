"""The same job_id with the same payload is the same dispatch: what counts is what a payload means, not its text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, Field

from relayq_core import InvalidOption, InvalidPayload, Job, JobRequest, job
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import encode_json
from relayq_core.model.record import Status
from relayq_core.testing import Bench
from tests.support.factories import a_job


class Line(BaseModel):
    """A part of an order."""

    sku: str
    count: float = 1
    tags: set[str] = set()


class Point(NamedTuple):
    """Something with numbers."""

    x: float
    y: float


NEW_YORK = ZoneInfo("America/New_York")
TWICE = datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK)
EST = timezone(timedelta(hours=-4))


def defined() -> dict[str, Any]:
    """A class job and a function job that take the same."""

    class Ship(Job):
        lines: list[Line] = Field(default=[])
        users: set[int] = Field(default=set())
        options: dict[str, Any] = Field(default={})
        price: Decimal | None = None
        when: datetime | None = None
        at: Point | None = None
        greeting: str = "Hello"

        def handle(self) -> None: ...

    @job(name="ship")
    def ship(
        lines: list[Line] = [],  # noqa: B006
        users: set[int] = set(),  # noqa: B006
        options: dict[str, Any] = {},  # noqa: B006
        price: Decimal | None = None,
        when: datetime | None = None,
        at: Point | None = None,
        greeting: str = "Hello",
    ) -> None: ...

    return {"class": Ship, "function": ship}


FORMS = pytest.mark.parametrize("form", ["class", "function"])

SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"users": {8, 0}}, {"users": {0, 8}}),
    ({"users": [1, 2, 3]}, {"users": [3, 2, 1]}),
    ({"options": {"a": 1, "b": {"c": 1, "d": 2}}}, {"options": {"b": {"d": 2, "c": 1}, "a": 1}}),
    ({"options": {"n": 1}}, {"options": {"n": 1.0}}),
    ({"options": {"n": 0.0}}, {"options": {"n": -0.0}}),
    ({"lines": [{"sku": "a"}]}, {"lines": [{"count": 1.0, "sku": "a", "tags": []}]}),
    ({"lines": [Line(sku="a", tags={"x", "y"})]}, {"lines": [{"tags": ["y", "x"], "sku": "a"}]}),
    ({}, {"greeting": "Hello", "lines": [], "when": None}),
    ({"price": Decimal("1.10")}, {"price": "1.1"}),
    ({"when": TWICE}, {"when": datetime(2026, 11, 1, 1, 30, tzinfo=EST)}),
    ({"when": TWICE}, {"when": "2026-11-01T05:30:00Z"}),
    ({"at": Point(1, 2)}, {"at": [1.0, 2.0]}),
]

DIFFERENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"users": {1}}, {"users": {1, 2}}),
    ({"options": {"n": 1}}, {"options": {"n": True}}),
    ({"options": {"n": [1, 2]}}, {"options": {"n": [2, 1]}}),
    ({"options": {"n": 1}}, {"options": {"n": "1"}}),
    ({"options": {"n": 2**53}}, {"options": {"n": 2**53 + 1}}),
    ({"options": {"n": None}}, {"options": {}}),
    ({"lines": [{"sku": "a"}, {"sku": "b"}]}, {"lines": [{"sku": "b"}, {"sku": "a"}]}),
    ({}, {"greeting": "hello"}),
    ({"when": TWICE}, {"when": TWICE.replace(fold=1)}),
    ({"when": datetime(2026, 11, 1, 1, 30)}, {"when": TWICE}),  # noqa: DTZ001
    ({"price": "1.10"}, {"price": "1.11"}),
    ({"at": Point(1, 2)}, {"at": Point(2, 1)}),
]


def jsonable(args: dict[str, Any]) -> bool:
    """Whether a caller without the types could write it."""
    try:
        return bool(encode_json("ship", args))
    except InvalidPayload:
        return False


def ways(kind: Any, name: str, args: dict[str, Any]) -> list[Callable[[], tuple[Any, Any]]]:
    """Each way to say the same to dispatch()."""
    made: list[Callable[[], tuple[Any, Any]]] = [lambda: (kind, args)]
    made.append((lambda: (kind(**args), None)) if isinstance(kind, type) else (lambda: (kind.job(**args), None)))
    if jsonable(args):
        made.append(lambda: (name, args))
    return made


@FORMS
@pytest.mark.parametrize("pair", SAME)
def test_payloads_that_mean_the_same_are_one_dispatch(bench: Bench, form: str, pair: Any) -> None:
    """By object, by type and by name, in each order; the row stays as the first of them wrote it."""
    kind = defined()[form]
    name = kind.__relayq_type__.name
    calls = [call for args in pair for call in ways(kind, name, args)]
    for number, first in enumerate(calls):
        for second in calls:
            bench.store.jobs.clear()
            job_id = f"id-{number}"
            bench.relayq.dispatch(*first(), job_id=job_id)
            written = bench.store.jobs[job_id].payload_json
            again = bench.relayq.dispatch(*second(), job_id=job_id)
            assert (again.job_id, again.duplicate) == (job_id, False)
            assert bench.store.jobs[job_id].payload_json == written


@FORMS
@pytest.mark.parametrize("pair", DIFFERENT)
def test_payloads_that_mean_something_else_are_refused(bench: Bench, form: str, pair: Any) -> None:
    """To call the second one accepted would lose it."""
    kind = defined()[form]
    for first, second in (pair, pair[::-1]):
        bench.store.jobs.clear()
        bench.relayq.dispatch(kind, first, job_id="mine")
        with pytest.raises(InvalidOption, match=r"belongs to another job .*, whose payload differs; choose another id"):
            bench.relayq.dispatch(kind, second, job_id="mine")


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"y": 2.0, "x": 1e0}]}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": None}, {}, False),
        ({"a": "\N{SNOWMAN}"}, {"a": "\u2603"}, True),
    ],
    ids=repr,
)
def test_without_the_type_json_is_compared(bench: Bench, first: Any, second: Any, is_same: bool) -> None:
    """A caller that has none of the job's code knows no sets and no defaults; the order of keys means nothing."""
    bench.relayq.dispatch("elsewhere", first, job_id="mine")
    if is_same:
        assert bench.relayq.dispatch("elsewhere", second, job_id="mine").job_id == "mine"
    else:
        with pytest.raises(InvalidOption, match="whose payload differs"):
            bench.relayq.dispatch("elsewhere", second, job_id="mine")


@pytest.mark.parametrize("text", ['{"name":"\\u00fc","n":1e2}', '{ "n" : 100.0, "name" : "ü" }'])
def test_a_row_may_spell_its_json_in_another_way(bench: Bench, text: str) -> None:
    """Escapes, spaces and numbers are spelling."""

    @job
    def greet(name: str, n: float) -> None: ...

    for job_name in ("greet", "elsewhere"):
        bench.store.jobs["mine"] = a_job(id="mine", name=job_name, payload_json=text, status=Status.COMPLETED)
        assert bench.relayq.dispatch(job_name, {"name": "ü", "n": 100}, job_id="mine").job_id == "mine"


def test_a_row_of_another_version_is_the_same_in_what_this_version_knows(bench: Bench) -> None:
    """While a deploy is under way: a newer version's further field is ignored, as the runner ignores it."""

    class Greet(Job):
        name: str
        greeting: str = "Hello"

        def handle(self) -> None: ...

    for text, is_same in [
        ('{"name":"A"}', True),
        ('{"name":"A","greeting":"Hello","loud":true}', True),
        ('{"name":"A","greeting":"Hi"}', False),
        ('{"names":["A"]}', False),
        ("[]", False),
        ("nonsense", False),
    ]:
        bench.store.jobs["mine"] = a_job(id="mine", name="Greet", payload_json=text)
        if is_same:
            bench.relayq.dispatch(Greet(name="A"), job_id="mine")
        else:
            with pytest.raises(InvalidOption, match="whose payload differs"):
                bench.relayq.dispatch(Greet(name="A"), job_id="mine")


def test_a_custom_payload_is_compared_as_json(bench: Bench) -> None:
    """What it means only from_payload knows, and that runs on the runner alone."""

    class Odd(Job):
        keys: list[str]

        def to_payload(self) -> dict[str, Any]:
            return dict.fromkeys(self.keys, 1)

        @classmethod
        def from_payload(cls, data: Any) -> Odd:
            raise AssertionError("this may ask a database")

        def handle(self) -> None: ...

    bench.relayq.dispatch(Odd(keys=["a", "b"]), job_id="mine")
    assert bench.relayq.dispatch(Odd(keys=["b", "a"]), job_id="mine").job_id == "mine"
    with pytest.raises(InvalidOption, match="whose payload differs"):
        bench.relayq.dispatch(Odd(keys=["b", "c"]), job_id="mine")


def test_a_default_is_compared_as_its_type_reads_it(bench: Bench) -> None:
    """A default is not checked where it is written: a list for a set is common."""

    @job
    def tag(tags: set[str] = ["a", "b"], n: int = 1) -> None: ...  # type: ignore[assignment]  # noqa: B006

    bench.relayq.dispatch(tag.job(), job_id="mine")
    assert bench.relayq.dispatch(tag.job(tags={"b", "a"}), job_id="mine").job_id == "mine"
    with pytest.raises(InvalidOption, match="whose payload differs"):
        bench.relayq.dispatch(tag.job(tags={"a"}), job_id="mine")


def test_an_alias_is_one_more_spelling(bench: Bench) -> None:
    """A field by its name or by its alias is the same field."""

    class Ship(Job):
        order_id: int = Field(alias="orderId")

        def handle(self) -> None: ...

    bench.relayq.dispatch(Ship(orderId=7), job_id="mine")
    bench.store.jobs["mine"] = bench.store.jobs["mine"].evolve(payload_json='{"order_id":7}')
    assert bench.relayq.dispatch(Ship, {"orderId": 7}, job_id="mine").job_id == "mine"


def test_a_refusal_shows_neither_payload(bench: Bench) -> None:
    """Errors are logged, payloads are not."""

    @job
    def greet(name: str) -> None: ...

    bench.relayq.dispatch(greet.job(name="hunter1"), job_id="mine")
    with pytest.raises(InvalidOption) as raised:
        bench.relayq.dispatch(greet.job(name="hunter2"), job_id="mine")
    assert "hunter" not in str(raised.value)


def test_sets_of_processes_with_other_hashes_are_the_same() -> None:
    """The order of a set of texts is another in each process."""
    import subprocess
    import sys

    code = (
        "from relayq_core import job\n"
        "@job\ndef mail(users: set[str]) -> None: ...\n"
        "print(mail.job(users=set('abcdefgh')).payload_json)"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }

    @job
    def mail(users: set[str]) -> None: ...

    assert len(texts) > 1
    assert all(registry["mail"].is_same(mine, other) for mine in texts for other in texts)
    assert isinstance(mail.job(users=set("abcdefgh")), JobRequest)

"""Times that a zone has twice or never, and offsets with seconds: what counts is the moment."""

import dataclasses
import datetime as dt
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from relayq_core import InvalidPayload
from relayq_core.jobs.meaning import is_same
from relayq_core.jobs.registry import registry
from tests.support.forms import BOTH, Form, run

NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = {
    "twice, the first": dt.datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK),
    "twice, the second": dt.datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK),
    "never": dt.datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
    "never, the second": dt.datetime(2026, 3, 29, 2, 30, fold=1, tzinfo=BERLIN),
    "half an hour": dt.datetime(2026, 4, 5, 1, 45, fold=1, tzinfo=ZoneInfo("Australia/Lord_Howe")),
    "seconds": dt.datetime(1880, 1, 1, 12, tzinfo=BERLIN),
    "seconds of a fixed offset": dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-30))),
    "common": dt.datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=BERLIN),
    "the first there is": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
}


class Model(BaseModel):
    """Holds a time."""

    when: dt.datetime


@dataclasses.dataclass
class Data:
    """Holds a time."""

    when: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """May be a member of a set."""

    when: dt.datetime


@pydantic_dataclass
class Checked:
    """Holds a time."""

    when: dt.datetime


class Typed(TypedDict):
    """Holds a time."""

    when: dt.datetime


class Named(NamedTuple):
    """Holds a time."""

    when: dt.datetime
    n: int = 1


HOLDERS: list[tuple[Any, Any]] = [
    (dt.datetime, lambda when: when),
    (AwareDatetime, lambda when: when),
    (dt.datetime | None, lambda when: when),
    (int | dt.datetime, lambda when: when),
    (list[dt.datetime], lambda when: [when]),
    (tuple[dt.datetime, ...], lambda when: (when,)),
    (deque[dt.datetime], lambda when: deque([when])),
    (set[dt.datetime], lambda when: {when}),
    (frozenset[dt.datetime], lambda when: frozenset({when})),
    (dict[str, dt.datetime], lambda when: {"x": when}),
    (dict[dt.datetime, int], lambda when: {when: 1}),
    (Mapping[str, dt.datetime], lambda when: {"x": when}),
    (Model, lambda when: Model(when=when)),
    (Model | int, lambda when: Model(when=when)),
    (list[Model], lambda when: [Model(when=when)]),
    (Data, Data),
    (Frozen, Frozen),
    (set[Frozen], lambda when: {Frozen(when)}),
    (Checked, lambda when: Checked(when=when)),
    (Typed, lambda when: {"when": when}),
    (Named, Named),
]


@BOTH
@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(("kind", "hold"), HOLDERS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_moment_arrives(form: Form, kind: Any, hold: Any, name: str) -> None:
    """In whatever it is held; dispatching it once more is the same dispatch."""
    value = hold(TIMES[name])
    made = form(kind)(value)
    arrived = run(made)
    assert is_same(value, arrived)
    assert type(arrived) is type(value)
    assert registry[made.name].is_same(made.payload_json, form(kind)(arrived).payload_json)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TIMES["twice, the first"], TIMES["twice, the second"]),
        (TIMES["twice, the first"], TIMES["twice, the first"].replace(tzinfo=None)),
        (TIMES["never"], TIMES["never, the second"]),
        (TIMES["seconds"], TIMES["seconds"].replace(tzinfo=dt.timezone(dt.timedelta(minutes=53)))),
    ],
)
def test_other_moments_are_not_the_same(one: dt.datetime, other: dt.datetime) -> None:
    """An hour, a zone or 28 seconds are a difference."""
    back = other if other.tzinfo is None else other.astimezone(dt.UTC)  # as JSON brings it
    for _, hold in HOLDERS:
        assert not is_same(hold(one), hold(back))


@settings(max_examples=100, deadline=None)
@given(st.datetimes(timezones=st.timezones(), allow_imaginary=True))
def test_two_times_are_the_same_if_they_are_one_moment(when: dt.datetime) -> None:
    """In every zone there is."""
    try:
        moment = when.astimezone(dt.UTC)
    except OverflowError:
        return
    assert is_same(when, moment)
    assert not is_same(
        when, moment + dt.timedelta(microseconds=1) if moment.year < 9999 else moment.replace(tzinfo=None)
    )


@BOTH
@pytest.mark.parametrize(
    "value", [dt.time(12, tzinfo=dt.UTC), dt.time(1, 30, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30)))]
)
def test_a_time_of_day_keeps_its_offset(form: Form, value: dt.time) -> None:
    """It has hours and minutes."""
    arrived = run(form(dt.time)(value))
    assert (arrived, arrived.utcoffset()) == (value, value.utcoffset())


@BOTH
def test_a_time_of_day_whose_offset_has_seconds_is_refused_with_the_reason(form: Form) -> None:
    """Without a date there is no moment that could be kept instead."""
    odd = dt.time(12, tzinfo=dt.timezone(dt.timedelta(seconds=3601)))
    with pytest.raises(InvalidPayload, match=r"field 'odd.0': .*: its offset from UTC has seconds"):
        form(list[dt.time])([odd])

"""How long a job waits before each retry, and how that is written down."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Backoff, Exponential, Fixed, InvalidOption, Linear
from relayq_core.errors import LONGEST_DELAY
from relayq_core.model.backoff import DEFAULT_BACKOFF, build_backoff, parse

#: What a settings file or a person would write: no more than three decimals.
seconds = st.integers(0, 100_000_000).map(lambda ms: ms / 1000)
backoffs = st.builds(
    Backoff,
    kind=st.sampled_from(["fixed", "linear", "exponential"]),
    values=seconds.map(lambda one: (one,)),
    cap=st.none() | seconds,
    jitter=st.integers(0, 100).map(lambda percent: percent / 100),
) | st.builds(
    Backoff,
    kind=st.just("list"),
    values=st.lists(seconds, min_size=2, max_size=50).map(tuple),
    cap=st.none() | seconds,
    jitter=st.integers(0, 100).map(lambda percent: percent / 100),
)
draw = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Fixed(7), [7, 7, 7, 7]),
        (Linear(7), [7, 14, 21, 28]),
        (Exponential(7), [7, 14, 28, 56]),
        (build_backoff([30, 120]), [30, 120, 120, 120]),
        (Exponential(10, cap=25), [10, 20, 25, 25]),
    ],
    ids=str,
)
def test_the_nth_retry_waits_as_the_formula_says(backoff: Backoff, waits: list[float]) -> None:
    """Users plan by these numbers: n is 1 for the first retry, a list repeats its last entry."""
    assert [backoff.delay(n) for n in (1, 2, 3, 4)] == waits


def test_the_default_is_exponential_from_ten_seconds_to_an_hour() -> None:
    """It is promised in the reference."""
    assert Exponential(10, cap=3600, jitter=0.1) == DEFAULT_BACKOFF


def test_jitter_moves_the_wait_to_either_side_by_its_share() -> None:
    """Jobs that failed together must not return together."""
    backoff = Fixed(100, jitter=0.1)
    assert [backoff.delay(1, draw=draw) for draw in (0, 0.5)] == [90, 100]
    assert backoff.delay(1, draw=0.999999) == pytest.approx(110)


def test_jitter_does_not_pass_the_cap() -> None:
    """A cap is a promise, jitter is a detail."""
    assert Fixed(100, cap=100, jitter=1).delay(1, draw=0.999) == 100


@given(backoffs, st.integers(1, 10**9), draw)
def test_a_wait_is_never_negative_nor_past_the_bound(backoff: Backoff, retry: int, draw: float) -> None:
    """Whatever is configured, the time of the next start fits the table."""
    wait = backoff.delay(retry, draw)
    assert 0 <= wait <= (LONGEST_DELAY if backoff.cap is None else backoff.cap)


@given(backoffs)
def test_what_is_written_down_reads_back_the_same(backoff: Backoff) -> None:
    """The row of a job holds its backoff as this text."""
    assert parse(str(backoff)) == backoff


@given(st.floats(0, LONGEST_DELAY), st.floats(0, 1))
def test_numbers_of_any_precision_can_be_written_down(base: float, jitter: float) -> None:
    """A row whose backoff cannot be read would never run."""
    back = parse(str(Exponential(base, jitter=jitter)))
    assert math.isclose(back.values[0], base, rel_tol=1e-12, abs_tol=1e-90)
    assert math.isclose(back.jitter, jitter, rel_tol=1e-12, abs_tol=1e-90)


@pytest.mark.parametrize("seconds", [1 / 3000, 0.000123456789012345, 5e-324, 1 / 3, 315_359_999.999999])
def test_a_number_with_many_digits_can_be_written_down(seconds: float) -> None:
    """A row whose backoff cannot be read would be put off forever."""
    assert parse(str(Fixed(seconds))).delay(1) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "backoff"),
    [
        ("10", Fixed(10)),
        ("10,30,60", build_backoff([10, 30, 60])),
        ("fixed:5", Fixed(5)),
        ("linear:0.5", Linear(0.5)),
        ("exponential:10,cap=3600,jitter=0.1", DEFAULT_BACKOFF),
        (" Exponential : 10 , cap = 60 ", Exponential(10, cap=60)),
        ("10,30,jitter=0.5", Backoff("list", (10, 30), jitter=0.5)),
    ],
)
def test_a_person_can_write_it_in_the_environment(text: str, backoff: Backoff) -> None:
    """RELAYQ_BACKOFF is typed by hand, so spaces and capitals do not matter."""
    assert parse(text) == backoff


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a number of seconds, got ''"),
        ("soon", "expected a number of seconds, got 'soon'"),
        ("-5", "got '-5'"),
        ("nan", "got 'nan'"),
        ("1e999", "expected seconds from 0 to 315360000, got inf"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "expected a number of seconds"),
        ("10,,30", "got ''"),
        ("exponental:10", 'Did you mean "exponential"?'),
        ("list:10,20", "expected one of fixed, linear, exponential, got 'list'"),
        ("linear:10,20", "linear takes one number of seconds, got 2"),
        ("exponential:", "expected a number of seconds"),
        ("exponential:10,top=5", "expected cap= or jitter=, got 'top'"),
        ("exponential:10,jitter=2", "expected a jitter from 0 to 1, got 2.0"),
        ("99999999999", "expected seconds from 0 to 315360000"),
        (",".join(["1"] * 51), "expected at most 50 entries, got 51"),
    ],
)
def test_a_text_that_is_no_backoff_is_refused_in_words(text: str, says: str) -> None:
    """A typing error in a deploy must not become a job that waits forever."""
    with pytest.raises(InvalidOption) as raised:
        parse(text)
    assert str(raised.value).startswith("backoff: ")
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [-1, math.nan, math.inf, True, "10", b"10", [], [10, -1], [10, "20"], [True], object(), {10}, 1e12],
    ids=repr,
)
def test_a_value_that_is_no_backoff_is_refused(value: Any) -> None:
    """Options are checked where they are given, not when the job first fails."""
    with pytest.raises(InvalidOption, match=r"^backoff: expected "):
        build_backoff(value)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan, True, "0.1"])
def test_a_jitter_that_is_no_share_is_refused(jitter: Any) -> None:
    """A jitter above 1 would make waits negative."""
    with pytest.raises(InvalidOption, match="expected a jitter from 0 to 1"):
        Fixed(10, jitter=jitter)


def test_a_changed_copy_is_checked_too() -> None:
    """Whichever way it is made."""
    assert Fixed(10).evolve(cap=5) == replace(Fixed(10), cap=5) == Fixed(10, cap=5)
    with pytest.raises(InvalidOption):
        Fixed(10).evolve(jitter=2)
    with pytest.raises(InvalidOption):
        replace(Fixed(10), jitter=2)

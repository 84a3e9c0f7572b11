"""Text that is stored or logged: bounded, printable, and without what the user gave as input."""

import sys
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from relayq_core.text import clean, cut, describe_error, locate_error, summarize_error, take_head
from tests.support.harmless import is_harmless

any_text = st.text(st.characters(codec=None, categories=None), max_size=400)


def raised(error: BaseException) -> BaseException:
    """The error with a traceback, as a handler's would have."""
    try:
        raise error
    except BaseException as caught:
        return caught


@given(any_text)
def test_clean_text_can_always_be_stored_and_printed(text: str) -> None:
    """A lone surrogate fails the write, an escape sequence takes over a terminal."""
    cleaned = clean(text)
    cleaned.encode()
    assert all(map(is_harmless, cleaned))


def test_clean_leaves_ordinary_text_alone() -> None:
    """Umlauts, snowmen, lines and tabs are what people write."""
    text = "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e \N{SNOWMAN}\n\tat line 3"
    assert clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "solde 1\u202f234,56\u00a0\u20ac",
        "\u30a8\u30e9\u30fc\u3000\u767a\u751f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "Donau\u00addampf\u200bschiff",
        "e\u0301 a\u0308\ufe0f",
        "\ue0b0\uf8ff",
        "\U0001fae8\U0001fadf",
        "\ufeffhead",
        "1\u2007000\u2009km\u2060",
    ],
    ids=[
        "no-break spaces",
        "ideographic space",
        "Persian non-joiner",
        "Hindi joiner",
        "family",
        "flag of tags",
        "soft hyphen",
        "combining marks",
        "private use",
        "emoji newer than Python",
        "byte order mark",
        "other spaces",
    ],
)
def test_what_harms_no_terminal_is_kept(text: str) -> None:
    """French numbers, Japanese sentences and families stay as they were written."""
    assert clean(text) == text


def test_of_all_characters_there_are_just_the_harmful_are_replaced() -> None:
    """Whatever Unicode's tables say of a character, cleaning agrees."""
    for char in map(chr, range(sys.maxunicode + 1)):
        assert clean(char) == (char if is_harmless(char) else "\N{REPLACEMENT CHARACTER}"), ascii(char)


def test_an_escape_sequence_is_made_harmless() -> None:
    """A stored error is printed to terminals later."""
    assert "\x1b" not in clean("\x1b[2Jgone\x00")


@given(any_text, st.integers(0, 500))
def test_the_head_of_a_text_is_all_that_fits_in_bytes(text: str, limit: int) -> None:
    """Without a gap, to the last whole character; what does not fit is less than one of them."""
    found = take_head(text, limit)
    assert clean(text).startswith(found)
    assert limit - 4 < len(found.encode()) <= limit or found == clean(text)


@given(any_text, st.integers(20, 500))
def test_a_cut_text_is_never_over_its_limit_in_bytes(text: str, limit: int) -> None:
    """The row has a budget in bytes; no character may be cut in half."""
    assert len(cut(text, limit).encode()) <= limit


def test_a_short_text_is_not_cut() -> None:
    """What fits is kept whole."""
    assert cut("short", 20) == "short"
    assert cut("x" * 20, 20) == "x" * 20


def test_a_cut_text_keeps_its_head_and_its_tail() -> None:
    """The kind of an error stands at its beginning, its cause often at its end."""
    assert cut("head" + "x" * 1000 + "tail", 30).startswith("head")
    assert cut("head" + "x" * 1000 + "tail", 30).endswith("tail")
    assert " ... " in cut("x" * 1000, 30)


@pytest.mark.parametrize("char", ["\N{SNOWMAN}", "\N{GRINNING FACE}", "\ud800", "\x00"])
def test_a_text_far_over_its_limit_is_bounded_whatever_it_is_made_of(char: str) -> None:
    """It is cut in characters before it is cleaned, and cleaning changes how many bytes there are."""
    assert len(cut(char * 100_000, 500).encode()) <= 500


def test_an_error_is_described_by_its_kind_its_message_and_its_place() -> None:
    """That is what an operator reads in the failed table."""
    told = describe_error(raised(ValueError("no such user")), 1000)
    first, frame = told.splitlines()
    assert first == "ValueError: no such user"
    assert frame.startswith(f"  at {__file__}:")
    assert frame.endswith(" in raised")


def test_an_error_without_a_traceback_is_one_line() -> None:
    """RelayQ's own errors, such as a crash, were never raised."""
    assert describe_error(ValueError("no"), 1000) == "ValueError: no"


def test_a_headline_is_one_error_in_few_bytes() -> None:
    """Five of them are kept in every row."""
    assert summarize_error(ValueError("no")) == "ValueError: no"
    assert summarize_error(MemoryError()) == "MemoryError"
    assert len(summarize_error(ValueError("x" * 10_000)).encode()) <= 500


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


class NotText(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return cast("str", 7)


class ValidationErrorOfMine(Exception):
    """Has `errors`, but is not pydantic's."""

    def errors(self) -> list[str]:
        return ["?"]


ValidationErrorOfMine.__name__ = "ValidationError"


@pytest.mark.parametrize("error", [Unprintable(), NotText(), ValidationErrorOfMine(), Exception(), SystemExit(3)])
def test_no_exception_is_too_odd_to_be_described(error: BaseException) -> None:
    """Recording an error must never become an error: the job would never be settled."""
    name = type(error).__name__
    assert describe_error(raised(error), 1000).startswith((f"{name}: ", f"{name}\n"))
    assert summarize_error(error)


class Login(BaseModel):
    """Holds what must not be shown."""

    password: int


def test_a_validation_error_is_shown_without_its_input() -> None:
    """pydantic prints the input; passwords would stand in the table and in the logs."""
    with pytest.raises(ValidationError) as caught:
        Login.model_validate({"password": "hunter2"})
    told = describe_error(caught.value, 1000)
    assert "hunter2" not in told
    assert told.startswith("ValidationError: password: Input should be a valid integer")
    assert "hunter2" not in summarize_error(caught.value)


def deep(n: int) -> Any:
    """Raise from n frames down."""
    return deep(n - 1) if n else 1 / 0


def test_only_the_innermost_frames_are_shown() -> None:
    """The place where it broke says more than how one got there, and a recursion has a thousand frames."""
    with pytest.raises(ZeroDivisionError) as caught:
        deep(50)
    assert describe_error(caught.value, 8192).count("  at ") == 8


def test_an_error_is_located_by_its_innermost_frame_alone() -> None:
    """One sentence for a terminal: what broke, and where."""
    with pytest.raises(ZeroDivisionError) as caught:
        deep(3)
    told = locate_error(caught.value)
    assert told.startswith("ZeroDivisionError: division by zero, at ")
    assert told.endswith("in deep")
    assert "\n" not in told
    assert locate_error(ValueError("x")) == "ValueError: x"


def _raised_from(cause: BaseException) -> LookupError:
    try:
        try:
            raise cause
        except BaseException as caught:
            raise LookupError("no such customer") from caught
    except LookupError as error:
        return error


def _raised_while_handling(first: BaseException) -> BaseException:
    try:
        try:
            raise first
        except BaseException:
            raise LookupError("no such customer")  # noqa: B904
    except LookupError as error:
        return error


def _lines(error: BaseException, limit: int = 8192) -> list[str]:
    return [line for line in describe_error(error, limit).splitlines() if not line.startswith("  at ")]


def test_the_cause_of_an_error_is_shown_with_it() -> None:
    """A developer who wraps errors wants to see what is in the wrapping."""
    error = _raised_from(KeyError("customer_id"))
    told = describe_error(error, 8192).splitlines()
    assert told[0] == "LookupError: no such customer"
    assert told[1].endswith(" in _raised_from")
    assert told[2] == "caused by KeyError: 'customer_id'"
    assert told[3].endswith(" in _raised_from")
    assert locate_error(error).endswith(" in _raised_from; caused by KeyError: 'customer_id'")


def test_the_error_that_was_being_handled_is_shown_unless_it_is_hidden() -> None:
    """As in Python's own traceback."""
    error = _raised_while_handling(KeyError("customer_id"))
    assert _lines(error) == ["LookupError: no such customer", "while handling KeyError: 'customer_id'"]
    error.__suppress_context__ = True
    assert _lines(error) == ["LookupError: no such customer"]


def test_notes_are_shown_of_each_error_of_the_chain() -> None:
    """`add_note` is how one says in which file and line it was."""
    cause = KeyError("customer_id")
    cause.add_note("column 3")
    error = _raised_from(cause)
    error.add_note("in march.csv,\x1b[2J line 7")
    assert _lines(error) == [
        "LookupError: no such customer",
        "  note: in march.csv,\N{REPLACEMENT CHARACTER}[2J line 7",
        "caused by KeyError: 'customer_id'",
        "  note: column 3",
    ]


def test_the_members_of_a_group_are_shown_each_with_its_cause() -> None:
    """A TaskGroup says of itself only that something is wrong."""
    member = _raised_from(KeyError("customer_id"))
    group = ExceptionGroup("several", [member, ExceptionGroup("inner", [ValueError("deep")])])
    assert _lines(group)[1:] == [
        "in it LookupError: no such customer",
        "caused by KeyError: 'customer_id'",
        "in it ExceptionGroup: inner (1 sub-exception): ValueError: deep",
        "in it ValueError: deep",
    ]


def test_a_long_message_leaves_room_for_its_cause_and_a_long_chain_for_the_message() -> None:
    """The row has 8 KB for all of it."""
    told = describe_error(_raised_from(KeyError("x" * 100_000)), 8192)
    assert len(told.encode()) <= 8192
    error = ValueError("y" * 100_000)
    error.__cause__ = KeyError("customer_id")
    told = describe_error(error, 8192)
    assert len(told.encode()) <= 8192
    assert told.endswith("caused by KeyError: 'customer_id'")
    first = last = ValueError("first")
    for number in range(5_000):
        last.__cause__ = ValueError(f"{number} " + "z" * 300)
        last.add_note("n" * 10_000)
        last = last.__cause__
    told = describe_error(first, 8192)
    assert len(told.encode()) <= 8192
    assert told.startswith("ValueError: first")


def test_causes_that_go_round_are_shown_once_each() -> None:
    """Two that point at each other have no end."""
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__context__ = two, one
    assert _lines(one) == ["ValueError: one", "caused by KeyError: 'two'"]


@pytest.mark.parametrize("wrap", ["cause", "context", "group", "group in a cause", "remote"])
def test_no_validation_error_behind_an_error_shows_its_input(wrap: str) -> None:
    """pydantic prints the input; it would stand in the table, wherever the exception is put."""
    with pytest.raises(ValidationError) as caught:
        Login.model_validate({"password": "hunter2"})
    invalid = caught.value
    error: BaseException
    match wrap:
        case "cause":
            error = _raised_from(invalid)
        case "context":
            error = _raised_while_handling(invalid)
        case "group":
            error = ExceptionGroup("several", [invalid])
        case "group in a cause":
            error = _raised_from(ExceptionGroup("several", [invalid]))
        case _:
            error = ValueError("in a worker")
            error.__cause__ = type("_RemoteTraceback", (Exception,), {})(
                f'Traceback:\n  File "jobs/x.py", line 7, in crawl\n    crawl()\n{invalid}\n'
            )
    told = describe_error(error, 8192)
    assert "hunter2" not in told + locate_error(error)
    assert ("password: Input should be a valid integer" in told) == (wrap != "remote")
    assert ("at jobs/x.py:7 in crawl" in told) == (wrap == "remote")

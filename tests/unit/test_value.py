"""Value: what a frozen dataclass is, without its code."""

import copy
import dataclasses
import pickle
import pprint
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from relayq_core import Backoff, Fixed, JobRecord
from relayq_core.model.value import Value, field


class Point(Value):
    """Two numbers, and a note that is not shown."""

    x: int
    y: int = 2
    note: str = field(default="none", shown=False)


class Other(Value):
    """The same fields."""

    x: int
    y: int = 2
    note: str = "none"


class Nothing(Value):
    """No fields at all."""


def test_fields_are_given_by_place_or_by_name_and_the_rest_are_defaults() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 5).y, Point(y=7, x=1).y, Point(1).note) == (1, 2, 5, 7, "none")
    assert vars(Point(1, note="n")) == {"x": 1, "y": 2, "note": "n"}


@pytest.mark.parametrize(
    ("args", "named"),
    [((), {}), ((1, 2, "n", 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})],
    ids=["missing", "too many", "twice", "unknown", "missing among named"],
)
def test_what_does_not_fit_is_a_type_error(args: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **named)  # type: ignore[arg-type]


def test_equal_values_of_one_class_are_equal_and_hash_alike() -> None:
    assert Point(1) == Point(x=1, y=2)
    assert hash(Point(1)) == hash(Point(note="none", y=2, x=1))
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Nothing() == Nothing()
    assert bool(Nothing())


def test_it_is_never_changed_in_place() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point == Point(1)


def test_a_copy_knows_what_was_changed_and_refuses_what_is_no_field() -> None:
    point = Point(1, note="n")
    assert (point.evolve(y=9), point) == (Point(1, 9, "n"), Point(1, 2, "n"))
    with pytest.raises(TypeError, match="z"):
        point.evolve(z=1)


def test_repr_leaves_out_what_is_not_to_be_shown() -> None:
    assert repr(Point(1, note="secret")) == "Point(x=1, y=2)"


def test_it_matches_by_place() -> None:
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


def test_a_value_is_a_dataclass_to_code_that_asks() -> None:
    point = Point(1, note="n")
    assert dataclasses.is_dataclass(point)
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "note": "n"}
    assert dataclasses.replace(point, y=5) == Point(1, 5, "n")
    assert [(known.name, known.repr) for known in dataclasses.fields(Point)] == [
        ("x", True),
        ("y", True),
        ("note", False),
    ]


def test_pydantic_checks_it_as_it_checks_a_dataclass() -> None:
    """So does whatever builds on pydantic."""
    record = JobRecord(id="a", name="n", queue="q", created_at=1, updated_at=1, available_at=1, backoff=Fixed(3))
    adapter = TypeAdapter(JobRecord)
    assert adapter.validate_json(adapter.dump_json(record)) == record
    for kind, values in (("nonsense", [1]), ("fixed", "x"), ("fixed", [])):
        with pytest.raises(ValidationError):
            TypeAdapter(Backoff).validate_python({"kind": kind, "values": values})


def test_it_is_printed_as_a_dataclass_is() -> None:
    """pytest shows what differs with pprint."""
    assert pprint.pformat(Point(1, note="secret")) == "Point(x=1, y=2)"


def test_a_subclass_has_the_fields_of_its_base() -> None:
    """Its own fields come after them, whether it is a Value or a dataclass."""

    class Further(Point):
        z: int = 9

    @dataclasses.dataclass(frozen=True)
    class Decorated(Point):
        z: int = 9

    assert vars(Further(1)) == {"x": 1, "y": 2, "note": "none", "z": 9}
    assert (Decorated(x=1).y, Decorated(x=1).z) == (2, 9)


def test_it_is_copied_and_pickled() -> None:
    point = Point(1, note="n")
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point


def test_importing_dispatch_does_not_load_dataclasses() -> None:
    """What logging itself loads does not count: since Python 3.14 that is both, by way of traceback's colours."""
    code = "import sys, logging; before = {*sys.modules}; import relayq_core; relayq_core.dispatch"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*set(sys.modules) - before)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"relayq_core.model.value", "relayq_core.engine.dispatcher"} <= set(loaded)
    assert not {"dataclasses", "inspect"} & set(loaded)

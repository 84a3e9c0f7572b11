"""The figures of the style: what each is, what it has to keep, and what it is to reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.style import measure


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, the bound that a test holds, and the goal that the bound moves to."""

    name: str
    value: float
    bound: float
    goal: float
    #: The value may not be below its bound. Otherwise it may not be above.
    is_floor: bool = False

    @property
    def holds(self) -> bool:
        """The value is within its bound."""
        return self.value >= self.bound if self.is_floor else self.value <= self.bound

    @property
    def reaches_goal(self) -> bool:
        """The value is as good as it has to become."""
        return self.value >= self.goal if self.is_floor else self.value <= self.goal

    @property
    def rule(self) -> str:
        """Return the bound in words, and the goal where the bound is not there yet."""
        side = "at least" if self.is_floor else "at most"
        return f"{side} {self.bound:g}" + ("" if self.bound == self.goal else f", goal {self.goal:g}")


def measure_all() -> Iterator[Figure]:
    """Yield every figure of the repository as it is."""
    core, tests = measure.python_files("relayq_core"), measure.python_files("tests")
    functions = list(measure.functions(core))
    verbs = round(100 * measure.share_of_verbs(functions), 1)
    methods = max(count for _, _, count in measure.classes(core))
    longest = max(function.lines for function in functions)
    yield Figure("idioms per 10,000 words, package", _rate(map(measure.prose_of_python, core)), 10, 10)
    yield Figure("idioms per 10,000 words, tests", _rate(map(measure.prose_of_python, tests)), 10, 10)
    yield Figure("idioms per 10,000 words, pages", _rate(map(measure.prose_of_page, measure.documents())), 10, 10)
    yield Figure("idioms in messages, help and the dashboard", _count(messages()), 0, 0)
    yield Figure("functions whose name begins with a verb, %", verbs, 50, 50, is_floor=True)
    yield Figure("median function, lines", measure.median_lines(functions), 5, 5)
    yield Figure("longest function, lines", longest, 40, measure.LONGEST_FUNCTION)
    yield Figure("longest file, lines", max(map(measure.lines_of, core)), 500, 500)
    yield Figure("largest class, methods", methods, 25, 25)
    yield Figure("modules at the root of relayq_core", measure.root_modules(), 10, 10)


def messages() -> list[measure.Prose]:
    """Return what users see: the package's string literals, and the text of the dashboard's templates."""
    python = map(measure.messages_of_python, measure.python_files("relayq_core"))
    return [*python, *map(measure.text_of_template, measure.templates())]


def idioms_by_room() -> Counter[str]:
    """Count the idioms of each folder: comments, docstrings, messages and pages."""
    python = [*measure.python_files("relayq_core"), *measure.python_files("tests")]
    prose = [*map(measure.prose_of_python, python), *map(measure.prose_of_page, measure.documents()), *messages()]
    rooms: Counter[str] = Counter()
    for file in prose:
        rooms[measure.room_of(file.file)] += len(file.idioms)
    return rooms


def _rate(prose: Iterable[measure.Prose]) -> float:
    return round(measure.idioms_per_10_000(prose), 1)


def _count(prose: Iterable[measure.Prose]) -> int:
    return sum(len(file.idioms) for file in prose)

"""The figures of the style, and what is asked of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.style import measure


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, and the bound it has to keep."""

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """The value is within its bounds."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def asked(self) -> str:
        """The bound in words."""
        return f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"


def figures() -> Iterator[Figure]:
    """Yield every figure of the repository as it is."""
    core, tests = measure.python_files("relayq_core"), measure.python_files("tests")
    functions = list(measure.functions(core))
    verbs = round(100 * measure.share_of_verbs(functions), 1)
    methods = max(count for _, _, count in measure.classes(core))
    yield Figure("idioms per 10,000 words, package", _idioms(map(measure.prose_of_python, core)), at_most=130)
    yield Figure("idioms per 10,000 words, tests", _idioms(map(measure.prose_of_python, tests)), at_most=135)
    yield Figure("idioms per 10,000 words, pages", _idioms(map(measure.prose_of_page, measure.documents())), at_most=70)
    yield Figure("functions whose name begins with a verb, %", verbs, at_least=40)
    yield Figure("median function, lines", measure.median_lines(functions), at_most=5)
    yield Figure("longest function, lines", max(function.lines for function in functions), at_most=56)
    yield Figure("longest file, lines", max(map(measure.lines_of, core)), at_most=622)
    yield Figure("largest class, methods", methods, at_most=44)
    yield Figure("modules at the root of relayq_core", measure.root_modules(), at_most=37)


def _idioms(prose: Iterable[measure.Prose]) -> float:
    return round(measure.idioms_per_10_000(prose), 1)

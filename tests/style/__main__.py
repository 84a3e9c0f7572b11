"""`python -m tests.style`: print how the source reads beside what is asked of it; of a FOLDER, what to mend."""

from __future__ import annotations

import sys

from tests.style import measure
from tests.style.figures import figures


def main() -> None:
    """Print a line for each figure, or for each thing to mend in the folders that are named."""
    for folder in sys.argv[1:]:
        mend(folder)
    if sys.argv[1:]:
        return
    for figure in figures():
        print(f"  {figure.name:52} {figure.value:>8g}   {figure.asked}")


def mend(folder: str) -> None:
    """Print the idioms of a folder's files, the functions that begin with no verb, and what is too large."""
    files = measure.python_files(folder)
    for path in files:
        prose = measure.prose_of_python(path)
        if prose.idioms:
            print(f"{prose.file}: {', '.join(prose.idioms)}")
    functions = list(measure.functions(files))
    for function in functions:
        if not function.starts_with_verb:
            print(f"{function.file}: {function.name}")
        if function.lines > measure.LONGEST_FUNCTION:
            print(f"{function.file}: {function.name} has {function.lines} lines")
    print(f"{folder}: {100 * measure.share_of_verbs(functions):.0f} % of {len(functions)} functions begin with a verb")
    print(f"{folder}: {measure.idioms_per_10_000(map(measure.prose_of_python, files)):.0f} idioms per 10,000 words")


if __name__ == "__main__":
    main()

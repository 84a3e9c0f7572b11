"""`python -m tests.style`: print how the source reads beside its bounds; for each FOLDER given, list what to mend."""

from __future__ import annotations

import sys

from tests.style import ceilings, measure
from tests.style.figures import idioms_by_room, measure_all


def main() -> None:
    """Print the figures and lower the ceilings; or, for the folders that are named, list what to mend."""
    for folder in sys.argv[1:]:
        list_faults(folder)
    if not sys.argv[1:]:
        for figure in measure_all():
            mark = " " if figure.holds else "!"
            print(f"{mark} {figure.name:46} {figure.value:>7g}   {figure.rule}")
        ceilings.write(ceilings.lower(ceilings.read(), idioms_by_room()))


def list_faults(folder: str) -> None:
    """Print the idioms of a folder's files, the functions that begin with no verb, and what is too large."""
    files = measure.python_files(folder)
    pages = [path for path in measure.documents() if path.is_relative_to(measure.ROOT / folder)]
    prose = [*map(measure.prose_of_python, files), *map(measure.prose_of_page, pages)]
    messages = [*map(measure.messages_of_python, files)] if folder.startswith("relayq_core") else []
    for kind, counted in (("", prose), (" (messages)", messages)):
        for file in counted:
            if file.idioms:
                print(f"{file.file}{kind}: {', '.join(file.idioms)}")
    functions = list(measure.functions(files))
    for function in functions:
        if not function.starts_with_verb:
            print(f"{function.file}: {function.name}")
        if function.lines > measure.LONGEST_FUNCTION:
            print(f"{function.file}: {function.name} has {function.lines} lines")
    if functions:
        verbs = 100 * measure.share_of_verbs(functions)
        print(f"{folder}: {verbs:.0f} % of {len(functions)} functions begin with a verb")
    print(f"{folder}: {measure.idioms_per_10_000(prose):.0f} idioms per 10,000 words")


if __name__ == "__main__":
    main()

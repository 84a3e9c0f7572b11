"""The words that the style of the house is measured with."""

from __future__ import annotations

import re
from pathlib import Path

#: Idioms that make a sentence read as a translation. docs/STYLE.md says what to write instead.
IDIOM = re.compile(
    r"\b(nobody|whoever|somebody|anybody|so many|so often|so long|anew|told|tells?|telling|bears?|bore|meant|meanwhile"
    r"|at hand|in vain|for ever|let be|be let be|as it then is|whatever there is)\b",
    re.IGNORECASE,
)

#: The first word of a function that is named by what it does. Predicates (is_due, has_room) are verbs too.
VERBS = frozenset(Path(__file__).with_name("verbs.txt").read_text(encoding="utf-8").split())

"""How many idioms each folder may still hold. `make style` lowers a ceiling to what it finds, and never raises one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(__file__).with_name("ceilings.json")


def read() -> dict[str, int]:
    """Return the ceiling of each folder that has idioms left; every other folder may hold none."""
    ceilings: dict[str, int] = json.loads(_FILE.read_text(encoding="utf-8"))
    return ceilings


def lower(ceilings: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the ceilings after a count: where fewer idioms are left the ceiling falls, where none are left it goes."""
    left = {room: min(ceiling, counts.get(room, 0)) for room, ceiling in ceilings.items()}
    return {room: ceiling for room, ceiling in sorted(left.items()) if ceiling}


def write(ceilings: Mapping[str, int]) -> None:
    """Keep the ceilings for the next run."""
    _FILE.write_text(json.dumps(ceilings, indent=2) + "\n", encoding="utf-8")

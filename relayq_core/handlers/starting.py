"""A function's start: checks that must pass before it, and garbage collection kept out of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pause_gc() -> Iterator[None]:
    """Collect no garbage in the block, which saves a tenth of a start; then freeze what it made.

    A start makes many objects that stay and hardly any garbage. Frozen objects are never examined again, which makes
    later collections shorter too.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
    gc.freeze()


def check_python(folder: Path | None = None) -> None:
    """Raise ImportError if the layer was built for another Python than this one: its pydantic would not load.

    `folder`: where the layer's build has written its Python version; without that file there is nothing to check.
    """
    try:
        built = ((folder or Path(__file__).parents[1]) / "built_for").read_text().strip()
    except FileNotFoundError:
        return
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if built != running:
        raise ImportError(
            f"the layer was built for Python {built}, but this function runs on {running}: rebuild it for {running} "
            f"(`make deploy RUNTIME=python{running}`, or LAYER_PYTHON=python{running} for `sam build`), or set the "
            f"function's Runtime to python{built}"
        )

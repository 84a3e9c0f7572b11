"""A function's start, without looking for garbage: it makes much that stays, and nothing that goes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def starting() -> Iterator[None]:
    """Collect no garbage in the block: that takes a tenth of a start. What is there at its end is never looked at
    again, which makes later collections shorter too."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
    gc.freeze()


def refuse_another_python(folder: Path | None = None) -> None:
    """Raise ImportError where the layer holds wheels of another Python than this one: pydantic's would not load.

    `folder`: where the layer's build has written which Python it is for; without that file there is no such layer.
    """
    try:
        built = ((folder or Path(__file__).parents[1]) / "built_for").read_text().strip()
    except FileNotFoundError:
        return
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if built != running:
        raise ImportError(
            f"the layer was built for Python {built}, and this function runs on {running}: build it for that one "
            f"(`make deploy RUNTIME=python{running}`, or LAYER_PYTHON=python{running} for `sam build`), or let the "
            f"function's Runtime be python{built}"
        )

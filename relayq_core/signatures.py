"""Signatures whose annotations may name what is not there yet, or is there for type checkers only."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, ForwardRef

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """The parameters. From 3.14 on annotations are evaluated when asked for, and one cannot know when all are."""
        return list(inspect.signature(function, annotation_format=Format.FORWARDREF).parameters.values())

else:

    def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """The parameters. Before 3.14 annotations are values, or texts that nobody evaluates here."""
        return list(inspect.signature(function).parameters.values())


def text_of(annotation: Any) -> str | None:
    """How an annotation is written that has no value yet; None for one that has."""
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation.strip("'\"") if isinstance(annotation, str) else None

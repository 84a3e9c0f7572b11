"""Text that is stored or logged: bounded in bytes, without control characters, and safe to encode."""

from __future__ import annotations

import os
import traceback
from typing import Any

_CUT = " ... "
#: Frames of files below this folder tell a user nothing about their handler.
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def clean(text: str) -> str:
    """The text without lone surrogates and control characters (but for newline and tab)."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(
        char if char in "\n\t" or (char.isprintable() or char == " ") else "\N{REPLACEMENT CHARACTER}" for char in safe
    )


def cut(text: Any, limit: int) -> str:
    """At most `limit` bytes of UTF-8: the head and the tail, for an error's last line says the most."""
    whole = str(text)
    # bounded before it is cleaned, so that a message of 50 MB costs no more than a long one
    if len(whole) > limit:
        keep = limit
        whole = whole[:keep] + _CUT + whole[-keep:] if len(whole) > 2 * keep else whole
    whole = clean(whole)
    raw = whole.encode()
    if len(raw) <= limit:
        return whole
    tail = (limit - len(_CUT)) // 2
    head = limit - len(_CUT) - tail
    return raw[:head].decode(errors="ignore") + _CUT + raw[-tail:].decode(errors="ignore")


def describe(error: BaseException, limit: int) -> str:
    """`Type: message`, with the last frames of its traceback, in at most `limit` bytes.

    Never raises, whatever the exception does; a pydantic ValidationError is told without its input.
    """
    head = f"{type(error).__name__}: {_message(error)}"
    frames = _frames(error)
    return cut(f"{head}\n{frames}" if frames else head, limit)


def headline(error: BaseException, limit: int = 500) -> str:
    """`Type: message` in at most `limit` bytes. Never raises."""
    return cut(f"{type(error).__name__}: {_message(error)}", limit)


def located(error: BaseException, limit: int = 500) -> str:
    """`Type: message, at file:line in function` in at most `limit` bytes: the innermost frame alone. Never raises."""
    frames = _frames(error).splitlines()
    return cut(f"{headline(error)}, {frames[-1].strip()}" if frames else headline(error), limit)


def _message(error: BaseException) -> str:
    errors = getattr(error, "errors", None)
    if type(error).__name__ == "ValidationError" and callable(errors):
        try:
            return "; ".join(
                f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
                for found in errors(include_input=False, include_url=False, include_context=False)
            )
        except Exception:  # not pydantic's after all, or one that misbehaves
            return "(a validation error whose text cannot be read)"
    try:
        return str(error)
    except BaseException as broken:
        return f"(its message cannot be read: {type(broken).__name__})"


def _frames(error: BaseException) -> str:
    """Where it was raised: file, line and function of the innermost frames, without RelayQ's own; no values."""
    try:
        stack = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OWN)]
    except Exception:
        return ""
    return "\n".join(f"  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in stack[-8:])

"""Text that is stored or logged: bounded in bytes, without control characters, and safe to encode."""

from __future__ import annotations

import os
import re
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from relayq_core.errors import is_a

_CUT = " ... "
#: Bytes of a class name: code that generates classes may give them names of any length.
_MAX_NAME_BYTES = 200
#: How many of the innermost frames of a traceback are kept.
_MAX_FRAMES = 8
#: How many errors of a group are kept, and how many levels of groups within groups.
_MAX_MEMBERS = 5
_MAX_GROUP_DEPTH = 3
#: How many linked exceptions (causes, contexts, members) are kept, and the bytes, frames and notes of each.
_MAX_LINKED = 10
_LINKED_BYTES = 500
_LINKED_FRAMES = 3
_MAX_NOTES = 5
_NOTE_BYTES = 300
#: How many of pydantic's errors are kept.
_MAX_COMPLAINTS = 20
#: Frames of files below this folder say nothing about a user's handler.
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


#: Characters that control a terminal, reverse the text around them, break a line of a log, or cannot be stored: control
#: characters except newline and tab, bidirectional controls, line and paragraph separators, lone surrogates,
#: noncharacters. Everything else is text, even characters that Python's tables do not know yet: no-break spaces,
#: joiners, soft hyphens, new emoji.
_HARMFUL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def clean(text: str) -> str:
    """Return the text with U+FFFD in place of each character that harms a terminal, a log or an encoder.

    Every text that RelayQ writes to one of them passes through here. Its length in characters does not change.
    """
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)


def escape_json(json_text: str) -> str:
    """Return the JSON text with each character that harms a terminal or an encoder written as a JSON escape."""
    return _HARMFUL.sub(_escape, json_text)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def cut(text: Any, limit: int) -> str:
    """Cut a text to `limit` bytes of UTF-8. Keep its head and its tail: an error's last line says the most."""
    # str.__str__: a subclass of str could override how it is sliced and measured
    whole = str.__str__(str(text))
    # bounded before it is cleaned, so that a message of 50 MB costs no more than a long one
    if len(whole) > 2 * limit:
        whole = whole[:limit] + _CUT + whole[-limit:]
    whole = clean(whole)
    raw = whole.encode()
    if len(raw) <= limit:
        return whole
    tail = (limit - len(_CUT)) // 2
    head = limit - len(_CUT) - tail
    return raw[:head].decode(errors="ignore") + _CUT + raw[-tail:].decode(errors="ignore")


def take_head(text: str, limit: int) -> str:
    """Return the first `limit` bytes of UTF-8 at most, cut between characters. It has no gap, so it can be searched."""
    return clean(text[:limit]).encode()[:limit].decode(errors="ignore")


def describe_error(error: BaseException, limit: int) -> str:
    """Describe an error in at most `limit` bytes: `Type: message`, its notes, and the last frames of its traceback.

    Then the same for the exceptions linked to it: its cause or context, and the members of a group. They take at most
    half of the bytes. Never raises, whatever the exceptions do. The input of a pydantic ValidationError is left out.
    """
    linked = cut("\n".join(_describe_linked(error)), limit // 2)
    own_bytes = limit - len(linked.encode()) - 1 if linked else limit
    own = cut(_describe_one(error, own_bytes, _MAX_FRAMES), own_bytes)
    return "\n".join(part for part in (own, linked) if part)


def summarize_error(error: BaseException, limit: int = 500) -> str:
    """Return `Type: message`, or `Type` if the message is empty, in at most `limit` bytes. Never raises."""
    message = _read_message(error, limit)
    return cut(f"{read_class_name(error)}: {message}" if message else read_class_name(error), limit)


def locate_error(error: BaseException, limit: int = 500) -> str:
    """Return `Type: message, at file:line in function; caused by Type: message` in at most `limit` bytes.

    Only the innermost frame and the direct cause are named. Never raises.
    """
    summary = summarize_error(error)
    if frames := _describe_frames(error, 1):
        summary += f", {frames.strip()}"
    if (cause := _read_link(error, "__cause__")) is not None and not _is_remote(cause):
        summary += f"; caused by {summarize_error(cause, limit // 2)}"
    return cut(summary, limit)


def format_iso(at: int) -> str:
    """Format epoch milliseconds as ISO 8601: `2026-11-22T00:47:27.123Z`."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_location(location: Sequence[int | str]) -> str:
    """Format where in a payload a value is: `items.0.name`.

    A part that does not look like a name is the key of a mapping, and therefore the user's data: it becomes `…`.
    """
    parts = (str(part) if isinstance(part, int) or part.isidentifier() else "…" for part in location[1:])
    return ".".join([*map(str, location[:1]), *parts])


def describe_complaint(complaint: Mapping[str, Any]) -> str:
    """Return pydantic's message about one field. The only message that quotes the input is replaced."""
    return "its tag is not one of those expected" if complaint["type"] == "union_tag_invalid" else complaint["msg"]


def read_class_name(error: BaseException) -> str:
    """Return the name of the error's class, bypassing its metaclass."""
    return cut(type.__dict__["__name__"].__get__(type(error)), _MAX_NAME_BYTES)


def _read_message(error: BaseException, limit: int, depth: int = 0) -> str:
    """Return the error's text, cut before it is joined with any other; for a group, its first members' texts too."""
    try:
        if read_class_name(error) == "ValidationError" and callable(getattr(error, "errors", None)):
            return cut(_describe_complaints(error), 2 * limit)
        text = cut(str(error), 2 * limit)
        if depth < _MAX_GROUP_DEPTH and is_a(error, BaseExceptionGroup):
            text += f": {'; '.join(_summarize_members(error, limit // 4, depth))}"
    except BaseException as broken:
        return f"(its message cannot be read: {read_class_name(broken)})"
    return text


def _describe_complaints(error: Any) -> str:
    complaints = error.errors(include_input=False, include_url=False, include_context=False)[:_MAX_COMPLAINTS]
    return "; ".join(f"{format_location(one['loc'])}: {describe_complaint(one)}" for one in complaints)


def _summarize_members(group: Any, limit: int, depth: int) -> Iterator[str]:
    for error in group.exceptions[:_MAX_MEMBERS]:
        yield f"{read_class_name(error)}: {_read_message(error, limit, depth + 1)}"


def _describe_one(error: BaseException, limit: int, frames: int) -> str:
    """Describe the error itself: its summary, its notes, and where it was raised."""
    notes = (f"  note: {cut(note, _NOTE_BYTES)}" for note in _read_notes(error))
    return "\n".join(line for line in (summarize_error(error, limit), *notes, _describe_frames(error, frames)) if line)


def _describe_linked(error: BaseException) -> Iterator[str]:
    """Describe the exceptions linked to an error, the nearest first; each once, even if they form a circle."""
    seen = {id(error)}
    waiting = deque(_list_links(error))
    while waiting and len(seen) <= _MAX_LINKED:
        relation, linked = waiting.popleft()
        if id(linked) in seen:
            continue
        seen.add(id(linked))
        if _is_remote(linked):  # its text is a whole traceback, which includes the texts of all exceptions
            yield f"in another process:\n{_describe_remote_frames(linked)}"
        else:
            yield f"{relation} {_describe_one(linked, _LINKED_BYTES, _LINKED_FRAMES)}"
        waiting.extendleft(reversed(list(_list_links(linked))))


def _list_links(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield the error's cause or context, and the first members of a group, each with its relation to the error."""
    if (cause := _read_link(error, "__cause__")) is not None:
        yield "caused by", cause
    elif (context := _read_link(error, "__context__")) is not None and not _read_link(error, "__suppress_context__"):
        yield "while handling", context
    if is_a(error, BaseExceptionGroup):
        for member in BaseExceptionGroup.__dict__["exceptions"].__get__(error)[:_MAX_MEMBERS]:
            yield "in it", member


def _read_link(error: BaseException, link: str) -> Any:
    """Return the attribute as Python itself keeps it: the exception's class may override it."""
    return BaseException.__dict__[link].__get__(error)


def _read_notes(error: BaseException) -> list[str]:
    try:
        notes = vars(error).get("__notes__")
    except BaseException:
        return []
    if type(notes) is not list:
        return []
    return [note for note in notes[:_MAX_NOTES] if issubclass(type(note), str)]


def _is_remote(error: BaseException) -> bool:
    """Whether this is the cause that a process pool attaches to an exception from one of its workers."""
    return read_class_name(error) in {"RemoteTraceback", "_RemoteTraceback"}


def _describe_remote_frames(error: BaseException) -> str:
    text = _read_message(error, 4 * _LINKED_BYTES)
    frames = re.findall(r'^  File "([^"\n]+)", line (\d+), in (.+)$', text, re.MULTILINE)
    return "\n".join(f"  at {file}:{line} in {name}" for file, line, name in frames[-_LINKED_FRAMES:])


def _describe_frames(error: BaseException, count: int) -> str:
    """Return file, line and function of the `count` innermost frames that are not RelayQ's own; no values."""
    try:
        codes = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
        innermost = deque(((code, line) for code, line in codes if not code.co_filename.startswith(_OWN)), count)
    except BaseException:
        return ""
    return "\n".join(f"  at {code.co_filename}:{line} in {code.co_name}" for code, line in innermost)

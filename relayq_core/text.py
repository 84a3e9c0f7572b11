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
#: A class may be named by a generator of classes.
_LONGEST_NAME = 200
#: Of a traceback the innermost frames, of a group the first errors and the groups within it so deep.
_FRAMES_TOLD = 8
_MEMBERS_TOLD = 5
_GROUPS_TOLD = 3
#: Of what is behind an error so many exceptions, with so much text, frames and notes of each.
_BEHIND_TOLD = 10
_BEHIND_BYTES = 500
_FRAMES_TOLD_BEHIND = 3
_NOTES_TOLD = 5
_NOTE_BYTES = 300
#: Of what pydantic has to say the first complaints.
_COMPLAINTS_TOLD = 20
#: Frames of files below this folder tell a user nothing about their handler.
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


#: What takes over a terminal, turns the text around it, breaks a line of a log, or cannot be stored: controls but for
#: newline and tab, every bidirectional control, line and paragraph separators, lone surrogates, noncharacters. All else
#: is text, even where Python's own tables do not know it yet: no-break spaces, joiners, soft hyphens, new emoji.
_HARMFUL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def clean(text: str) -> str:
    """The text with a replacement character (U+FFFD) for each that harms a terminal, a log or an encoder.

    Every text that leaves RelayQ for one of them comes through here. Its length in characters stays.
    """
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(json_text: str) -> str:
    """JSON without a character that harms a terminal or an encoder: each is written as JSON's escape of it."""
    return _HARMFUL.sub(_escape, json_text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def cut(text: Any, limit: int) -> str:
    """At most `limit` bytes of UTF-8: the head and the tail, for an error's last line says the most."""
    # a str of the very type: a subclass could slice and measure itself as it likes
    whole = str.__str__(str(text))
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


def head(text: str, limit: int) -> str:
    """At most the first `limit` bytes of UTF-8, cut at a character: without a gap, so that one can search in it."""
    return clean(text[:limit]).encode()[:limit].decode(errors="ignore")


def describe(error: BaseException, limit: int) -> str:
    """`Type: message`, with its notes and the last frames of its traceback, and the same of what is behind it: what it
    was raised from, or while handling, and a group's members. In at most `limit` bytes, of which it has at least half.

    Never raises, whatever the exceptions do; a pydantic ValidationError is told without its input, wherever it stands.
    """
    behind = cut("\n".join(_behind(error)), limit // 2)
    own = limit - len(behind.encode()) - 1 if behind else limit
    return "\n".join(part for part in (cut(_told(error, own, _FRAMES_TOLD), own), behind) if part)


def headline(error: BaseException, limit: int = 500) -> str:
    """`Type: message`, or `Type` where it has none, in at most `limit` bytes. Never raises."""
    message = _message(error, limit)
    return cut(f"{class_name(error)}: {message}" if message else class_name(error), limit)


def located(error: BaseException, limit: int = 500) -> str:
    """`Type: message, at file:line in function; caused by Type: message` in at most `limit` bytes: the innermost frame
    alone, and what it was raised from. Never raises."""
    told = headline(error)
    if frames := _frames(error, 1):
        told += f", {frames.strip()}"
    if (cause := _linked(error, "__cause__")) is not None and not _is_remote(cause):
        told += f"; caused by {headline(cause, limit // 2)}"
    return cut(told, limit)


def iso(at: int) -> str:
    """A time for programs: `2026-11-22T00:47:27.123Z`."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def place(location: Sequence[int | str]) -> str:
    """Where in a payload something is: `items.0.name`. What does not look like a name is the key of a mapping, and so
    the user's data: it is not told."""
    named = (str(part) if isinstance(part, int) or part.isidentifier() else "…" for part in location[1:])
    return ".".join([*map(str, location[:1]), *named])


def complaint(found: Mapping[str, Any]) -> str:
    """What pydantic has to say of one field. Of all its messages one quotes the input: that is told without it."""
    return "its tag is none of those expected" if found["type"] == "union_tag_invalid" else found["msg"]


def class_name(error: BaseException) -> str:
    """The name of its class, whatever its metaclass says."""
    return cut(type.__dict__["__name__"].__get__(type(error)), _LONGEST_NAME)


def _message(error: BaseException, limit: int, depth: int = 0) -> str:
    """Its text, cut before it is put together with any other; of a group, what the first of it say too."""
    try:
        if class_name(error) == "ValidationError" and callable(getattr(error, "errors", None)):
            return cut(_complaints(error), 2 * limit)
        text = cut(str(error), 2 * limit)
        if depth < _GROUPS_TOLD and is_a(error, BaseExceptionGroup):
            text += f": {'; '.join(_members(error, limit // 4, depth))}"
    except BaseException as broken:
        return f"(its message cannot be read: {class_name(broken)})"
    return text


def _complaints(error: Any) -> str:
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{place(each['loc'])}: {complaint(each)}" for each in found[:_COMPLAINTS_TOLD])


def _members(group: Any, limit: int, depth: int) -> Iterator[str]:
    for error in group.exceptions[:_MEMBERS_TOLD]:
        yield f"{class_name(error)}: {_message(error, limit, depth + 1)}"


def _told(error: BaseException, limit: int, frames: int) -> str:
    """Its headline, its notes, where it was raised."""
    notes = (f"  note: {cut(note, _NOTE_BYTES)}" for note in _notes(error))
    return "\n".join(line for line in (headline(error, limit), *notes, _frames(error, frames)) if line)


def _behind(error: BaseException) -> Iterator[str]:
    """What is behind it, the nearest first; each once, though they go round."""
    seen = {id(error)}
    waiting = deque(_next_to(error))
    while waiting and len(seen) <= _BEHIND_TOLD:
        how, one = waiting.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if _is_remote(one):  # its text is a whole traceback, with the texts of all exceptions in it
            yield f"in another process:\n{_remote_frames(one)}"
        else:
            yield f"{how} {_told(one, _BEHIND_BYTES, _FRAMES_TOLD_BEHIND)}"
        waiting.extendleft(reversed(list(_next_to(one))))


def _next_to(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """What it was raised from or while handling, and a group's first members."""
    if (cause := _linked(error, "__cause__")) is not None:
        yield "caused by", cause
    elif (context := _linked(error, "__context__")) is not None and not _linked(error, "__suppress_context__"):
        yield "while handling", context
    if is_a(error, BaseExceptionGroup):
        for member in BaseExceptionGroup.__dict__["exceptions"].__get__(error)[:_MEMBERS_TOLD]:
            yield "in it", member


def _linked(error: BaseException, link: str) -> Any:
    """As Python itself keeps it, whatever the exception's class says."""
    return BaseException.__dict__[link].__get__(error)


def _notes(error: BaseException) -> list[str]:
    try:
        notes = vars(error).get("__notes__")
    except BaseException:
        return []
    if type(notes) is not list:
        return []
    return [note for note in notes[:_NOTES_TOLD] if issubclass(type(note), str)]


def _is_remote(error: BaseException) -> bool:
    """It is what a pool of processes puts behind an exception of a worker's."""
    return class_name(error) in {"RemoteTraceback", "_RemoteTraceback"}


def _remote_frames(error: BaseException) -> str:
    found = re.findall(r'^  File "([^"\n]+)", line (\d+), in (.+)$', _message(error, 4 * _BEHIND_BYTES), re.MULTILINE)
    return "\n".join(f"  at {file}:{line} in {name}" for file, line, name in found[-_FRAMES_TOLD_BEHIND:])


def _frames(error: BaseException, count: int) -> str:
    """Where it was raised: file, line and function of the innermost frames, without RelayQ's own; no values."""
    try:
        codes = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
        told = deque(((code, line) for code, line in codes if not code.co_filename.startswith(_OWN)), count)
    except BaseException:
        return ""
    return "\n".join(f"  at {code.co_filename}:{line} in {code.co_name}" for code, line in told)

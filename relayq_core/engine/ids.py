"""Ids of new jobs."""

from __future__ import annotations

import os

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Each of the 32 letters stands for eight of the 256 byte values, so all are equally likely.
_LETTERS = _CROCKFORD.encode() * 8


def generate_id(now: int) -> str:
    """Return a fresh job id: a ULID (github.com/ulid/spec), 48 bits of epoch milliseconds and 80 random bits.

    26 characters that sort by time of dispatch, and that a person can read out.
    """
    time = "".join([_CROCKFORD[now >> shift & 31] for shift in _TIME_SHIFTS])
    return time + os.urandom(16).translate(_LETTERS).decode()


#: Ten letters of five bits each, the first of three.
_TIME_SHIFTS = range(45, -1, -5)

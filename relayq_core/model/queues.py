"""Queues: how many there may be, and how long one is remembered."""

from __future__ import annotations

#: The sweeper asks the index for each of them, so they are few.
MOST_QUEUES = 100

#: A queue that was forgotten is swept for so long: what was on its way to it is found all the same.
FORGOTTEN_MS = 86_400_000

#: Who registered a queue does so again after this, for the name may have been taken back.
REGISTERED_MS = 300_000

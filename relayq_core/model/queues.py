"""Queues: how many there may be, and how long one is remembered."""

from __future__ import annotations

#: The sweeper asks the index for each of them, so they are few.
MOST_QUEUES = 100

#: A queue that was forgotten is swept for this long, so that jobs which were on their way to it are found.
FORGOTTEN_MS = 86_400_000

#: A process registers its queues again after this long, for an operator may have forgotten them.
REGISTERED_MS = 300_000

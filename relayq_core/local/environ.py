"""Environments for the embedded stack: what the user's shell says of AWS must not leak in, it leads to an account."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_FOREIGN = ("AWS_", "RELAYQ_", "POWERTOOLS_")


def isolated(environ: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """An environment: `base` without anything about AWS or RelayQ, and then `environ`."""
    return {**{key: value for key, value in base.items() if not key.startswith(_FOREIGN)}, **environ}


@contextmanager
def applied(environ: Mapping[str, str]) -> Iterator[None]:
    """While inside, this process has that environment, and nothing else about AWS or RelayQ."""
    before = dict(os.environ)
    _become(isolated(environ, before))
    try:
        yield
    finally:
        _become(before)


def _become(environ: Mapping[str, str]) -> None:
    for key in os.environ.keys() - environ.keys():
        del os.environ[key]
    os.environ.update(environ)

"""Build environments for the embedded stack, without the shell's AWS variables: those lead to a real account."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_FOREIGN = ("AWS_", "RELAYQ_", "POWERTOOLS_")


def isolate(environ: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without its variables of AWS, RelayQ and Powertools, plus `environ`."""
    return {**{key: value for key, value in base.items() if not key.startswith(_FOREIGN)}, **environ}


@contextmanager
def apply_environ(environ: Mapping[str, str]) -> Iterator[None]:
    """While the block runs, give this process that environment, and no other variables of AWS or RelayQ."""
    before = dict(os.environ)
    _set_environ(isolate(environ, before))
    try:
        yield
    finally:
        _set_environ(before)


def _set_environ(environ: Mapping[str, str]) -> None:
    for key in os.environ.keys() - environ.keys():
        del os.environ[key]
    os.environ.update(environ)

"""Files for nobody else on this machine: rows hold payloads, logs quote them, and `dev.env` holds a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


def private_folder(folder: Path) -> Path:
    """The folder, made if need be, that only its owner may enter; also one that an earlier version left open."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def opened(file: Path, mode: str) -> IO[Any]:
    """The file, opened as `open` does, that only its owner may read; also one that was there before."""
    stream = open(file, mode, opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115 - the caller's to close
    os.fchmod(stream.fileno(), 0o600)
    return stream


def write_private(file: Path, text: str) -> None:
    """Write a text that only the file's owner may read."""
    with opened(file, "w") as stream:
        stream.write(text)

"""Make files that only their owner can read: rows hold payloads, logs quote them, and `dev.env` holds a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


def make_private_folder(folder: Path) -> Path:
    """Create the folder if need be, and let only its owner enter it; return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def open_private(file: Path, mode: str) -> IO[Any]:
    """Open a file as `open` does, and let only its owner read it, even if it existed before."""
    stream = open(file, mode, opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115 - the caller's to close
    os.fchmod(stream.fileno(), 0o600)
    return stream


def write_private(file: Path, text: str) -> None:
    """Write a text that only the file's owner can read."""
    with open_private(file, "w") as stream:
        stream.write(text)

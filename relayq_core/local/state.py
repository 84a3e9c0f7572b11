"""Keep the two tables' rows as JSON in `.relayq/`, so that a later command can read and change them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relayq_core.errors import RelayQError
from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.private import make_private_folder, open_private, write_private

#: The folder of the state, in the current one.
FOLDER = Path(".relayq")
_FILE = "state.json"
_VERSION = 1


class NoState(RelayQError):
    """There is no state in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no {folder / _FILE} here: run `relayq demo` in this folder first, "
            "or create empty tables with `relayq --local tables create`"
        )


class UnreadableState(RelayQError):
    """The state cannot be read."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file} cannot be read ({problem}); run `relayq demo` again, or delete it")


class Held(RelayQError):
    """Another process uses this folder."""

    def __init__(self, what: str, pid: str) -> None:
        process = f" (process {pid})" if pid else ""
        super().__init__(f"{what} is running here already{process}: stop it, or use another folder")


def make_folder(folder: Path) -> Path:
    """Create the folder if need be, close it to other users, and keep it out of version control; return it."""
    make_private_folder(folder)
    write_private(folder / ".gitignore", "*\n")
    return folder


@contextlib.contextmanager
def open_state(
    folder: Path, *, begin: bool = False, waiting: Callable[[str], None] | None = None
) -> Iterator[tuple[EmbeddedAws, dict[str, str]]]:
    """Yield an embedded AWS with the saved rows, and the settings saved with them; save the rows at the end.

    One command at a time: another waits, after calling `waiting` with the holder, as "process 123". `begin`: create
    empty tables if there is no state. Raises NoState and UnreadableState.
    """
    if not begin and not exists(folder):
        raise NoState(folder)
    with _lock_folder(make_folder(folder), waiting):
        state = _read(folder / _FILE)
        aws = EmbeddedAws()
        try:
            aws.create_tables()
            for table, rows in state["tables"].items():
                aws.fill(table, rows)
            try:
                yield aws, state["environ"]
            finally:
                save(folder, aws, state["environ"])
        finally:
            aws.close()


@contextlib.contextmanager
def hold_file(folder: Path, file: str, what: str) -> Iterator[None]:
    """Lock a folder's `file` while the block runs, at most until this process ends.

    Raises Held, which names the holder as `what`, if another process has it.
    """
    import fcntl

    with open_private(folder / file, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Held(what, lock.read().strip()) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def exists(folder: Path) -> bool:
    """Return whether the folder has a state."""
    return (folder / _FILE).exists()


def save(folder: Path, aws: EmbeddedAws, environ: Mapping[str, str]) -> None:
    """Write the tables' rows, and the settings to use with them, atomically."""
    tables = {table: aws.read_rows(table) for table in (JOBS_TABLE, FAILED_TABLE)}
    text = json.dumps({"version": _VERSION, "environ": dict(environ), "tables": tables}, indent=1)
    draft = folder / f"{_FILE}.{os.getpid()}"
    write_private(draft, text)
    draft.replace(folder / _FILE)


def delete(folder: Path) -> bool:
    """Delete the state; return False if there was none."""
    try:
        (folder / _FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {"environ": {}, "tables": {}}
    try:
        state: dict[str, Any] = json.loads(file.read_text())
        if state["version"] != _VERSION:
            raise UnreadableState(file, f"version {state['version']}, this is version {_VERSION}")
        return {"environ": dict(state["environ"]), "tables": dict(state["tables"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableState(file, type(error).__name__) from error


@contextlib.contextmanager
def _lock_folder(folder: Path, waiting: Callable[[str], None] | None) -> Iterator[None]:
    import fcntl

    with open_private(folder / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                file.seek(0)
                waiting(f"process {pid}" if (pid := file.read().strip()) else "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

"""Find which Python files of some folders were written, created or deleted since the last look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class FileWatcher:
    """Watches folders and all that is in them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._seen = self._scan()

    def list_changes(self) -> list[Path]:
        """Return the files that changed since the last call, deleted ones too, sorted."""
        before, self._seen = self._seen, self._scan()
        return sorted(path for path, _ in before.items() ^ self._seen.items())

    def _scan(self) -> dict[Path, tuple[int, int]]:
        files: dict[Path, tuple[int, int]] = {}
        for folder in self._folders:
            for path in [folder] if folder.is_file() else folder.rglob("*.py"):
                try:
                    status = path.stat()
                except OSError:
                    continue  # deleted since the folder was listed
                files[path] = (status.st_mtime_ns, status.st_size)
        return files


def find_syntax_error(path: Path) -> str | None:
    """Return what is wrong with a file's syntax, with the place and the line; None if nothing is."""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        at = " " * max(0, (error.offset or 1) - 1)
        return f"{path}:{error.lineno}: {error.msg}" + (f"\n    {line}\n    {at}^" if line else "")
    except (OSError, ValueError):
        return None  # deleted, or not a text: importing it reports that
    return None

"""Watch: which Python files of some folders have been written, made or deleted since the last look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Watched:
    """Folders, with all that is in them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._seen = self._look()

    def changed(self) -> list[Path]:
        """What is otherwise than at the last look, sorted; a deleted file is there too."""
        before, self._seen = self._seen, self._look()
        return sorted(path for path, _ in before.items() ^ self._seen.items())

    def _look(self) -> dict[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        for folder in self._folders:
            for path in [folder] if folder.is_file() else folder.rglob("*.py"):
                try:
                    status = path.stat()
                except OSError:
                    continue  # gone between the two looks
                found[path] = (status.st_mtime_ns, status.st_size)
        return found


def syntax_error(path: Path) -> str | None:
    """What is wrong with a file's syntax, with its place and the line itself; None if nothing is."""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        at = " " * max(0, (error.offset or 1) - 1)
        return f"{path}:{error.lineno}: {error.msg}" + (f"\n    {line}\n    {at}^" if line else "")
    except (OSError, ValueError):
        return None  # deleted, or no text: the import will say so
    return None

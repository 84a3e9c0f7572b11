"""Find the folders in which a repository keeps its jobs, for the commands that write, run and import them."""

from __future__ import annotations

from pathlib import Path

#: Where the package `jobs` may be, from a repository's root; the first that exists is used.
_JOBS = (Path("functions/runner/jobs"), Path("src/jobs"), Path("jobs"))

_NEW = Path("src/jobs")


def find_jobs_folder(root: Path) -> Path:
    """Return the folder of the jobs, relative to `root`; src/jobs if there is none yet, as the examples deploy that."""
    return next((folder for folder in _JOBS if (root / folder).is_dir()), _NEW)


def list_code_folders(root: Path) -> list[Path]:
    """Return the folders to put first on Python's path so that job modules can be imported.

    They are the parent of the jobs folder, then `root`, then the other parents that exist.
    """
    first = root / find_jobs_folder(root).parent
    others = [root, *(root / folder.parent for folder in _JOBS)]
    return list(dict.fromkeys(folder for folder in (first, *others) if folder.is_dir()))

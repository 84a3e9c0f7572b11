"""Where a repository keeps its jobs: the same for the commands that write them and for those that run them."""

from __future__ import annotations

from pathlib import Path

#: The folders of the package `jobs`, from a repository's root; the first that is there counts.
_JOBS = (Path("functions/runner/jobs"), Path("src/jobs"), Path("jobs"))

_NEW = Path("src/jobs")


def jobs_folder(root: Path) -> Path:
    """Where `root` keeps its jobs, relative to it; where it has none yet, src/jobs, which the examples deploy."""
    return next((folder for folder in _JOBS if (root / folder).is_dir()), _NEW)


def code_folders(root: Path) -> list[Path]:
    """What Python's path has to begin with for the job modules to be found: the folder that the jobs are in, then
    `root` itself and those others that are there."""
    first = root / jobs_folder(root).parent
    others = [root, *(root / folder.parent for folder in _JOBS)]
    return list(dict.fromkeys(folder for folder in (first, *others) if folder.is_dir()))

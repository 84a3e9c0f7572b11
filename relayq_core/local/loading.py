"""Import the job modules into this process again, as they are now on disk."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from relayq_core.jobs.registry import JobType, import_jobs, registry


def reload_jobs(modules: Iterable[str], folders: Iterable[Path]) -> Mapping[str, JobType]:
    """Import these modules, whose code is in these folders, and return their job types; discard what they print.

    Raises what a module raises; then the registry is unchanged.
    """
    _forget(list(folders))
    with registry.reload(), contextlib.redirect_stdout(io.StringIO()):
        import_jobs(name.strip() for name in modules if name.strip())
        return dict(registry)


def _forget(folders: list[Path]) -> None:
    """Make Python read the files again."""
    roots = [folder.resolve() for folder in folders]
    for name, module in list(sys.modules.items()):
        # a folder without an __init__.py is a package without a file
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(Path(place).resolve().is_relative_to(root) for place in places if place for root in roots):
            del sys.modules[name]
    importlib.invalidate_caches()

"""The registry: job types by their names. Only a registered type is ever built or run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from relayq_core.errors import DuplicateJobName, SettingsError, UnknownJob
from relayq_core.jobs.context import JobContext
from relayq_core.model.options import Options, iterate_several


class RunnableJob(Protocol):
    """A job built from its payload, ready to run."""

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        """Run the handler, or return a coroutine if it is async. A context is built only if the handler takes one."""
        ...

    def failed(self, error: BaseException) -> Any:
        """Call the job's `failed`, once it has failed for good; do nothing if it defines none."""
        ...


class JobType(Protocol):
    """What the core knows of a job class or function. What needs pydantic is behind it."""

    @property
    def name(self) -> str:
        """The name under which the job is dispatched and stored."""
        ...

    @property
    def options(self) -> Options:
        """The options in the class line or the decorator."""
        ...

    @property
    def origin(self) -> Origin:
        """Where the job is defined."""
        ...

    def encode(self, args: Any) -> str:
        """Return the payload of a job object, or of a mapping of arguments, as checked JSON. Raises InvalidPayload."""
        ...

    def recheck(self, payload_json: str) -> str:
        """Return a payload that is JSON already, as from a dispatch by name, validated. Raises InvalidPayload."""
        ...

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        """Return the job of a stored payload, and the names of unknown fields that were ignored.

        Raises InvalidPayload.
        """
        ...

    def is_same(self, mine: str, other: str) -> bool:
        """Return whether two payloads, as JSON, mean the same to the handler. Never raises."""
        ...

    def build_schema(self) -> dict[str, Any]:
        """Return the payload's JSON Schema. Never raises: see `explain_unknown_payload`."""
        ...


def explain_unknown_payload(schema: Mapping[str, Any]) -> str | None:
    """Return why a schema does not describe the payload, as a sentence, or None if it does."""
    if "properties" in schema:
        return None
    reason: str = schema.get("$comment", "")
    return reason.removeprefix("unknown: ") or "the job writes and reads it by itself"


class Origin(NamedTuple):
    """Where a job type is defined. Equal origins are one definition, loaded again."""

    file: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.qualname} in {self.file}"


class Registry(Mapping[str, JobType]):
    """Job types by name."""

    def __init__(self) -> None:
        self._types: dict[str, JobType] = {}
        #: another number after each change
        self.version = 0

    def register(self, job_type: JobType) -> None:
        """Add a job type. It replaces one of the same file and qualified name, else raises DuplicateJobName."""
        earlier = self._types.get(job_type.name)
        if earlier is not None and earlier.origin != job_type.origin:
            raise DuplicateJobName(job_type.name, str(earlier.origin), str(job_type.origin))
        self._types[job_type.name] = job_type
        self.version += 1

    def swap(self, types: dict[str, JobType]) -> dict[str, JobType]:
        """Put these job types in place of all that are registered, and return those."""
        earlier, self._types = self._types, types
        self.version += 1
        return earlier

    @contextmanager
    def reload(self) -> Iterator[None]:
        """Return a context in which the registry begins empty, for modules that are imported again.

        If its block raises, the registry is as it was before.
        """
        before = self.swap({})
        try:
            yield
        except BaseException:
            self.swap(before)
            raise

    def find(self, name: str) -> JobType:
        """Return the job type of this name. Raises UnknownJob, which lists the registered names."""
        try:
            return self._types[name]
        except KeyError:
            raise UnknownJob(name, self._types) from None

    def __getitem__(self, name: str) -> JobType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


#: The registry that classes and decorators register with.
registry = Registry()


def import_jobs(modules: Iterable[str]) -> None:
    """Import each module, and every submodule of each package, so that their jobs register.

    Raises SettingsError if there is no module of a name, and whatever a module raises.
    """
    for name in iterate_several("modules", modules, "names of modules"):
        _import_tree(name)


def _import_tree(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise SettingsError(
            "RELAYQ_JOB_MODULES", f"no module named {error.name!r} (Python looks in: {', '.join(sys.path)})"
        ) from None
    _import_below(module)


def _import_below(package: ModuleType) -> None:
    for name in _list_submodules(package):
        _import_below(importlib.import_module(name))


def _list_submodules(package: ModuleType) -> list[str]:
    """Return the full names of a package's modules. As everywhere in Python, a folder needs no __init__.py."""
    import pkgutil  # noqa: PLC0415 - a caller that only dispatches never gets here

    paths = list(getattr(package, "__path__", ()))
    folders = (entry.name for path in paths if os.path.isdir(path) for entry in os.scandir(path) if entry.is_dir())
    names = {*(found.name for found in pkgutil.iter_modules(paths)), *filter(str.isidentifier, folders)}
    return sorted(f"{package.__name__}.{name}" for name in names if not name.startswith("__"))  # __main__, __pycache__

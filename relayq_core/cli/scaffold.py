"""What `relayq make-job` writes: a job, its test and its event, as text; and where each of them goes."""

from __future__ import annotations

import json
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from relayq_core.cli.project_layout import jobs_folder
from relayq_core.errors import InvalidOption

#: What the files below call by name: a job of that name would hide it, or be hidden.
_TAKEN = frozenset(
    {
        *("Job", "JobContext", "job", "str", "BaseException"),
        *("json", "Path", "Status", "dispatch", "Kit", "EVENT", "job_id", "relayq_inline"),
    }
)
#: pytest reads a file of this name for itself.
_TAKEN_FILES = frozenset({"conftest"})
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are, relative to the root."""

    jobs: Path
    tests: Path
    #: not there yet: it puts the folder of `jobs` on Python's path
    conftest: Path | None


def layout(root: Path) -> Layout:
    """Jobs go to where jobs are, and tests beside those of their kind."""
    jobs = jobs_folder(root)
    tests = Path("tests/functions") if jobs.parts[0] == "functions" else Path("tests")
    conftest = tests / "conftest.py"
    return Layout(jobs, tests, None if (root / conftest).exists() else conftest)


@dataclass(frozen=True, slots=True)
class Names:
    """A job's name, and that of its file."""

    name: str
    module: str

    @property
    def is_class(self) -> bool:
        """CamelCase is a class, snake_case a function."""
        return self.name[0].isupper()


def names(text: str) -> Names:
    """`SendInvoice` or `send_invoice`. Raises InvalidOption for what is neither."""
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
        raise InvalidOption("name", f"expected a name like SendInvoice or send_invoice, got {text[:80]!r}")
    if keyword.iskeyword(text) or keyword.iskeyword(module):
        raise InvalidOption("name", f"{text!r} is a word of Python's own")
    if text in _TAKEN or module in _TAKEN_FILES:
        raise InvalidOption("name", f"{text!r} is a name that the job's own files need; take another")
    if len(module) > _LONGEST:
        raise InvalidOption("name", f"its files are named after it: take a name of at most {_LONGEST} letters")
    if text[0].isupper() and "_" in text:
        raise InvalidOption("name", f"expected a name like SendInvoice or send_invoice, got {text!r}")
    return Names(text, module)


def files(wanted: Names, queue: str, place: Layout) -> dict[Path, str]:
    """All that is to be written, by its path from the root."""
    up = len(place.tests.parts)
    event = Path("events") / f"dispatch_{wanted.module}.json"
    written = {
        place.jobs / f"{wanted.module}.py": (_CLASS if wanted.is_class else _FUNCTION).format(
            name=wanted.name, queue=queue
        ),
        place.tests / f"test_{wanted.module}.py": _TEST.format(
            name=wanted.name,
            imports=_imports(wanted, place),
            made=f'{wanted.name}(name="Ada")' if wanted.is_class else f'{wanted.name}.job(name="Ada")',
            up=up,
            event=event.name,
        ),
        event: json.dumps({"name": wanted.name, "args": {"name": "Ada"}, "queue": queue}, indent=2) + "\n",
    }
    if place.conftest is not None:
        root, folder = f"Path(__file__).parents[{up}]", place.jobs.parent.as_posix()
        written[place.conftest] = _CONFTEST.format(path=root if folder == "." else f'{root} / "{folder}"')
    return written


def _imports(wanted: Names, place: Layout) -> str:
    """In the order that isort has them in: RelayQ is at home in its own repository, and elsewhere the jobs are."""
    job = f"from jobs.{wanted.module} import {wanted.name}"
    ours = "from relayq_core import Status, dispatch\nfrom relayq_core.testing import Kit"
    return "\n\n".join([job, ours] if place.jobs.parts[0] == "functions" else [ours, job])


_CLASS = '''"""{name}: say here what it does, and why it may be done twice."""

from relayq_core import Job, JobContext


class {name}(Job, queue="{queue}", max_attempts=3, timeout=60):
    """Its fields are its payload."""

    name: str

    def handle(self, context: JobContext) -> str:
        """Do the work. What it returns is kept as the result, if it is JSON."""
        context.logger.info("working for %s", self.name)
        return f"done for {{self.name}}"

    def failed(self, error: BaseException) -> None:
        """Once it has failed for good: tell somebody, or leave this out."""
'''

_FUNCTION = '''"""{name}: say here what it does, and why it may be done twice."""

from relayq_core import JobContext, job


@job(queue="{queue}", max_attempts=3, timeout=60)
def {name}(context: JobContext, name: str) -> str:
    """Do the work. The parameters are its payload; what it returns is kept as the result, if it is JSON."""
    context.logger.info("working for %s", name)
    return f"done for {{name}}"
'''

_TEST = '''"""{name}, dispatched and run as in production, on tables in memory."""

import json
from pathlib import Path

{imports}

EVENT = json.loads((Path(__file__).parents[{up}] / "events" / "{event}").read_text())


def test_it_does_its_work(relayq_inline: Kit) -> None:
    """Through JSON and the real runner."""
    job_id = dispatch({made}).job_id
    assert relayq_inline.get(job_id).result == "done for Ada"


def test_its_event_fits(relayq_inline: Kit) -> None:
    """By its name alone, as a caller dispatches it that has none of its code."""
    job_id = dispatch(EVENT["name"], EVENT["args"], queue=EVENT["queue"]).job_id
    assert relayq_inline.get(job_id).status is Status.COMPLETED


def test_it_may_be_done_twice(relayq_inline: Kit) -> None:
    """Its runner dies when the work is done and nobody knows: it is done again."""
    relayq_inline.crash_runner()
    job_id = dispatch({made}).job_id
    relayq_inline.time_travel(minutes=5)
    job = relayq_inline.get(job_id)
    assert (job.status, job.attempt) == (Status.COMPLETED, 2)
'''

_CONFTEST = '''"""The jobs are the package `jobs`, as they are in the Lambda."""

import sys
from pathlib import Path

sys.path.insert(0, str({path}))
'''

"""Render what `relayq make-job` writes: a job, its test and its event, and the path of each."""

from __future__ import annotations

import json
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from relayq_core.cli.project_layout import find_jobs_folder
from relayq_core.errors import InvalidOption

#: Names that the files below use: a job with such a name would hide it, or be hidden by it.
_TAKEN = frozenset(
    {
        *("Job", "JobContext", "job", "str", "BaseException"),
        *("json", "Path", "Status", "dispatch", "Kit", "EVENT", "job_id", "relayq_inline"),
    }
)
#: pytest gives a file of this name a meaning of its own.
_TAKEN_FILES = frozenset({"conftest"})
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files go, relative to the root."""

    jobs: Path
    tests: Path
    #: the file that puts the folder of `jobs` on Python's path; None if it exists already
    conftest: Path | None


def find_layout(root: Path) -> Layout:
    """Return where `root` keeps its jobs and their tests."""
    jobs = find_jobs_folder(root)
    tests = Path("tests/functions") if jobs.parts[0] == "functions" else Path("tests")
    conftest = tests / "conftest.py"
    return Layout(jobs, tests, None if (root / conftest).exists() else conftest)


@dataclass(frozen=True, slots=True)
class Names:
    """A job's name, and that of its module."""

    name: str
    module: str

    @property
    def is_class(self) -> bool:
        """CamelCase is a class, snake_case a function."""
        return self.name[0].isupper()


def parse_names(text: str) -> Names:
    """Return the names for `SendInvoice` or `send_invoice`. Raises InvalidOption for other texts."""
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
        raise InvalidOption("name", f"expected a name like SendInvoice or send_invoice, got {text[:80]!r}")
    if keyword.iskeyword(text) or keyword.iskeyword(module):
        raise InvalidOption("name", f"{text!r} is a Python keyword")
    if text in _TAKEN or module in _TAKEN_FILES:
        raise InvalidOption("name", f"the job's files use the name {text!r} for something else; choose another")
    if len(module) > _LONGEST:
        raise InvalidOption("name", f"its files are named after it: choose a name of at most {_LONGEST} letters")
    if text[0].isupper() and "_" in text:
        raise InvalidOption("name", f"expected a name like SendInvoice or send_invoice, got {text!r}")
    return Names(text, module)


def render_files(names: Names, queue: str, layout: Layout) -> dict[Path, str]:
    """Return the text of each file to write, by its path from the root."""
    up = len(layout.tests.parts)
    event = Path("events") / f"dispatch_{names.module}.json"
    texts = {
        layout.jobs / f"{names.module}.py": (_CLASS if names.is_class else _FUNCTION).format(
            name=names.name, queue=queue
        ),
        layout.tests / f"test_{names.module}.py": _TEST.format(
            name=names.name,
            imports=_render_imports(names, layout),
            instance=f'{names.name}(name="Ada")' if names.is_class else f'{names.name}.job(name="Ada")',
            up=up,
            event=event.name,
        ),
        event: json.dumps({"name": names.name, "args": {"name": "Ada"}, "queue": queue}, indent=2) + "\n",
    }
    if layout.conftest is not None:
        root, folder = f"Path(__file__).parents[{up}]", layout.jobs.parent.as_posix()
        texts[layout.conftest] = _CONFTEST.format(path=root if folder == "." else f'{root} / "{folder}"')
    return texts


def _render_imports(names: Names, layout: Layout) -> str:
    """Return the imports in isort's order: RelayQ is first-party in its own repository, elsewhere the jobs are."""
    job = f"from jobs.{names.module} import {names.name}"
    ours = "from relayq_core import Status, dispatch\nfrom relayq_core.testing import Kit"
    return "\n\n".join([job, ours] if layout.jobs.parts[0] == "functions" else [ours, job])


_CLASS = '''"""{name}: describe what it does, and why doing it twice is safe."""

from relayq_core import Job, JobContext


class {name}(Job, queue="{queue}", max_attempts=3, timeout=60):
    """The fields are the payload."""

    name: str

    def handle(self, context: JobContext) -> str:
        """Do the work and return the result, which is kept if it is JSON."""
        context.logger.info("working for %s", self.name)
        return f"done for {{self.name}}"

    def failed(self, error: BaseException) -> None:
        """Called when the job has failed for good; notify a person, or remove this method."""
'''

_FUNCTION = '''"""{name}: describe what it does, and why doing it twice is safe."""

from relayq_core import JobContext, job


@job(queue="{queue}", max_attempts=3, timeout=60)
def {name}(context: JobContext, name: str) -> str:
    """Do the work and return the result, which is kept if it is JSON. The parameters are the payload."""
    context.logger.info("working for %s", name)
    return f"done for {{name}}"
'''

_TEST = '''"""Dispatch {name} and run it as in production, on tables in memory."""

import json
from pathlib import Path

{imports}

EVENT = json.loads((Path(__file__).parents[{up}] / "events" / "{event}").read_text())


def test_it_does_its_work(relayq_inline: Kit) -> None:
    """The payload goes through JSON, and the real runner runs the job."""
    job_id = dispatch({instance}).job_id
    assert relayq_inline.get(job_id).result == "done for Ada"


def test_its_event_fits(relayq_inline: Kit) -> None:
    """A caller that does not have the job's code dispatches it by its name."""
    job_id = dispatch(EVENT["name"], EVENT["args"], queue=EVENT["queue"]).job_id
    assert relayq_inline.get(job_id).status is Status.COMPLETED


def test_it_may_be_done_twice(relayq_inline: Kit) -> None:
    """The runner dies after the work is done and before the end is written: the job runs again."""
    relayq_inline.crash_runner()
    job_id = dispatch({instance}).job_id
    relayq_inline.time_travel(minutes=5)
    job = relayq_inline.get(job_id)
    assert (job.status, job.attempt) == (Status.COMPLETED, 2)
'''

_CONFTEST = '''"""Make the package `jobs` importable, as it is in the Lambda."""

import sys
from pathlib import Path

sys.path.insert(0, str({path}))
'''

"""Which job has which name, and how the modules that define them are found."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayq_core import DuplicateJobName, SettingsError, UnknownJob
from relayq_core.jobs.registry import Registry, import_jobs

A_JOB = "from relayq_core import job\n@job\ndef {name}() -> None: ...\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules where Python looks for them; what was imported from there is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop_jobs"]:
        del sys.modules[name]  # another test's
    before = set(sys.modules)

    def write(path: str, text: str) -> None:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


Write = Callable[[str, str], None]


def test_every_submodule_of_a_package_is_imported(write: Write, jobs: Registry) -> None:
    """A new file in jobs/ is all it takes to add a job."""
    write("shop_jobs/__init__.py", A_JOB.format(name="top"))
    write("shop_jobs/mail.py", A_JOB.format(name="mail"))
    write("shop_jobs/deep/__init__.py", "")
    write("shop_jobs/deep/er.py", A_JOB.format(name="deeper"))
    import_jobs(["shop_jobs"])
    assert sorted(jobs) == ["deeper", "mail", "top"]


def test_a_package_needs_no_init_file(write: Write, jobs: Registry) -> None:
    """People forget it, and Python itself does not mind."""
    write("shop_jobs/mail.py", A_JOB.format(name="mail"))
    write("shop_jobs/deep/er.py", A_JOB.format(name="deeper"))
    import_jobs(["shop_jobs"])
    assert sorted(jobs) == ["deeper", "mail"]


def test_a_plain_module_and_a_dotted_one_will_do(write: Write, jobs: Registry) -> None:
    """RELAYQ_JOB_MODULES may name either."""
    write("shop_tasks.py", A_JOB.format(name="task"))
    write("shop/background.py", A_JOB.format(name="background"))
    write("shop/unrelated.py", A_JOB.format(name="unrelated"))
    import_jobs(["shop_tasks", "shop.background"])
    assert sorted(jobs) == ["background", "task"]


def test_folders_that_hold_no_python_are_let_be(write: Write, jobs: Registry) -> None:
    """Templates, caches and the like stand beside the jobs."""
    write("shop_jobs/mail.py", A_JOB.format(name="mail"))
    write("shop_jobs/templates/welcome.html", "<p>")
    write("shop_jobs/__pycache__/stale.py", "1 / 0")
    write("shop_jobs/not-a-module/broken.py", "1 / 0")
    write("shop_jobs/.hidden/broken.py", "1 / 0")
    import_jobs(["shop_jobs"])
    assert sorted(jobs) == ["mail"]


@pytest.mark.parametrize("broken", ["shop_jobs/mail.py", "shop_jobs/deep/__init__.py", "shop_jobs/deep/er.py"])
def test_a_module_that_breaks_fails_the_import(write: Write, broken: str) -> None:
    """A runner that starts without some of its jobs would give them back until they are buried."""
    write("shop_jobs/__init__.py", "")
    write("shop_jobs/deep/__init__.py", "")
    write(broken, "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        import_jobs(["shop_jobs"])


@pytest.mark.parametrize("broken", ["shop_jobs/__init__.py", "shop_jobs/deep/__init__.py", "shop_jobs/mail.py"])
def test_a_missing_dependency_is_reported_as_what_it_is(write: Write, broken: str) -> None:
    """It is the dependency that is missing, not the job module."""
    write("shop_jobs/__init__.py", "")
    write("shop_jobs/deep/__init__.py", "")
    write(broken, "import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_jobs(["shop_jobs"])


@pytest.mark.parametrize("name", ["no_such_jobs", "no_such.jobs", "shop.no_such"])
def test_a_module_that_is_not_there_is_a_matter_of_settings(write: Write, name: str) -> None:
    """The sentence names the variable, the module, and where Python looked."""
    write("shop/__init__.py", "")
    with pytest.raises(SettingsError, match=r"^RELAYQ_JOB_MODULES: no module named 'no_such|'shop.no_such'") as raised:
        import_jobs([name])
    assert "Python looks in: " in str(raised.value)


def test_two_modules_that_define_one_name_are_refused_naming_both(write: Write, tmp_path: Path) -> None:
    """One of them would never run."""
    write("shop_jobs/a.py", A_JOB.format(name="send"))
    write("shop_jobs/b.py", A_JOB.format(name="send"))
    with pytest.raises(DuplicateJobName) as raised:
        import_jobs(["shop_jobs"])
    told = str(raised.value)
    assert "two jobs are named 'send'" in told
    assert f"send in {tmp_path / 'shop_jobs/a.py'}" in told
    assert f"send in {tmp_path / 'shop_jobs/b.py'}" in told
    assert "name=..." in told


def test_two_decorated_jobs_of_one_name_are_refused_too(write: Write) -> None:
    """A decorator that both share does not make them one definition."""
    write(
        "shop_tools.py",
        "import functools\n"
        "def logged(f):\n"
        "    @functools.wraps(f)\n"
        "    def wrapper(*args, **kwargs): return f(*args, **kwargs)\n"
        "    return wrapper\n",
    )
    text = "from relayq_core import job\nfrom shop_tools import logged\n@job\n@logged\ndef send() -> None: ...\n"
    write("shop_jobs/a.py", text)
    write("shop_jobs/b.py", text)
    with pytest.raises(DuplicateJobName):
        import_jobs(["shop_jobs"])


def test_importing_twice_changes_nothing(write: Write, jobs: Registry) -> None:
    """A package may be named, and so may a module of it."""
    write("shop_jobs/mail.py", A_JOB.format(name="mail"))
    import_jobs(["shop_jobs", "shop_jobs.mail", "shop_jobs"])
    assert sorted(jobs) == ["mail"]


def test_an_unregistered_name_is_reported_with_what_there_is() -> None:
    """A typing error is the likeliest cause."""
    told = str(UnknownJob("send_emial", ["send_email", "report"]))
    assert told == "no job named 'send_emial'. Did you mean \"send_email\"? Registered: report, send_email"


def test_an_empty_registry_suggests_the_setting() -> None:
    """Nothing registered at all means that no module was imported."""
    with pytest.raises(UnknownJob, match="none; is its module named in RELAYQ_JOB_MODULES"):
        Registry().find("send_email")

"""The plugin in a user's project: fixtures without configuration, no needless import, nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

USER_TEST = """
import os

import boto3
import pytest

from relayq_core import dispatch, get, job


@job
def greet(name: str) -> str:
    return f"Hello, {name}!"


def signup(name):
    dispatch("greet", {"name": name}, unique=f"greet:{name}")


def test_fake(relayq_fake):
    signup("Ada")
    signup("Ada")
    relayq_fake.assert_dispatched(greet, name="Ada")
    relayq_fake.drain()


def test_inline(relayq_inline):
    signup("Ada")
    (dispatched,) = relayq_inline.all_dispatched()
    assert get(dispatched.id).result == "Hello, Ada!"


def test_moto(relayq):
    signup("Ada")
    assert [record.result for record in relayq.drain()] == ["Hello, Ada!"]
    assert sorted(boto3.client("dynamodb").list_tables()["TableNames"]) == ["failed", "jobs"]


def test_what_fails_shows_what_was_dispatched(relayq_fake):
    signup("Bob")
    relayq_fake.assert_dispatched(greet, name="Ada")
"""


def test_the_fixtures_need_no_configuration(pytester: pytest.Pytester) -> None:
    """Installed is enough; a failed assertion reads well in pytest's report."""
    pytester.makepyfile(USER_TEST)
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*greet(name='Bob'), queue='default', unique='greet:Bob'   <- name is 'Bob'"])


def test_the_fixtures_are_described(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` is where a user looks first."""
    result = pytester.runpytest_subprocess("--fixtures", "-q", "-p", "no:cacheprovider")
    for name in ("relayq", "relayq_fake", "relayq_inline"):
        result.stdout.fnmatch_lines([f"{name} -- *pytest_plugin.py*"])


def test_a_project_that_uses_no_fixture_pays_for_none() -> None:
    """Every pytest run beside an installed RelayQ loads the plugin: it imports pytest and no more."""
    code = (
        "import sys, pytest; before = set(sys.modules); import relayq_core.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["relayq_core", "relayq_core.pytest_plugin"]


def test_the_environment_is_as_before(relayq_fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, nothing leads to a real AWS; a shell's own settings are not there."""
    import os

    assert "AWS_PROFILE" not in os.environ
    assert os.environ["RELAYQ_JOBS_TABLE"] == "jobs"
    assert not [name for name in os.environ if name.startswith("AWS_ENDPOINT")]


def test_without_pytest_the_kits_are_context_managers(pytester: pytest.Pytester) -> None:
    """unittest will do."""
    path = pytester.makepyfile(
        user_test="""
        import unittest

        from relayq_core import dispatch, job
        from relayq_core.testing import fake, inline

        @job
        def greet(name: str) -> str:
            return f"Hello, {name}!"

        class Greetings(unittest.TestCase):
            def test_it_is_dispatched(self):
                with fake() as relayq:
                    dispatch("greet", {"name": "Ada"})
                    relayq.assert_dispatched("greet", name="Ada")

            def test_it_greets(self):
                relayq = self.enterContext(inline())
                job_id = dispatch(greet.job(name="Ada")).job_id
                self.assertEqual(relayq.get(job_id).result, "Hello, Ada!")
        """
    )
    told = subprocess.run(
        [sys.executable, "-m", "unittest", path.name], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "Ran 2 tests" in told.stderr

"""The reference pages say what the code says."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest
import typer.main

import relayq_core
from relayq_core.cli.exit_codes import LEGEND
from relayq_core.cli.main import app
from relayq_core.events.publisher import TITLES
from relayq_core.settings import PREFIX, Settings
from tests.support.paths import ROOT
from tests.surfaces.docs.tables import rows
from tests.surfaces.template import translate

REFERENCE = ROOT / "docs/reference"


def test_the_table_of_variables_names_every_setting_once() -> None:
    """A setting that is not there will not be found, and one that is not in the code cannot be set."""
    named = [name for name in rows(REFERENCE / "environment.md", "Variable") if name.startswith(PREFIX)]
    assert named == [PREFIX + field.name.upper() for field in fields(Settings)]


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
def test_the_default_of_a_variable_is_the_one_that_holds(field: str) -> None:
    """What the table shows, set in the environment, is what holds without it."""
    shown = rows(REFERENCE / "environment.md", "Variable")[PREFIX + field.upper()][0].strip("`")
    given = Settings.from_environ({PREFIX + field.upper(): shown})
    assert getattr(given, field) == getattr(Settings(), field)


def _parameters() -> Mapping[str, Any]:
    found: Mapping[str, Any] = translate.read()["Parameters"]
    return found


def test_the_table_of_parameters_is_the_templates() -> None:
    """Names, order and defaults."""
    shown = {name: cells[0].strip("`") for name, cells in rows(REFERENCE / "template.md", "Parameter").items()}
    defaults = {name: str(parameter["Default"]) for name, parameter in _parameters().items()}
    assert shown == defaults


def test_the_table_of_outputs_is_the_templates() -> None:
    """In the template's order; all but the last are exported."""
    outputs = translate.read()["Outputs"]
    assert list(rows(REFERENCE / "template.md", "Output")) == list(outputs)
    assert [name for name, output in outputs.items() if "Export" not in output] == ["CoreLayerArn"]


def test_the_variables_of_the_ready_jobs_are_the_ones_that_the_template_sets() -> None:
    """They are no settings of RelayQ, so nothing else would notice."""
    runner = translate.read()["Resources"]["RunnerFunction"]["Properties"]["Environment"]["Variables"]
    named = {name for name in rows(REFERENCE / "environment.md", "Variable") if not name.startswith(PREFIX)}
    assert named == {name for name in runner if not name.startswith(PREFIX)}


def _commands(group: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every command with what it must or may be given, and its help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            words = [
                p.metavar if p.param_type_name == "argument" else f"{p.opts[0]} {p.metavar}"
                for p in command.params
                if p.required or p.param_type_name == "argument"
            ]
            yield " ".join([path, name, *words]), command.help


def test_the_page_on_the_command_line_lists_every_command() -> None:
    """The page shows what each must be given, as its own --help says it."""
    commands = dict(_commands(typer.main.get_command(app), "relayq"))
    assert sorted(rows(REFERENCE / "command-line.md", "Command")) == sorted(commands)


def test_the_exit_codes_are_the_ones_that_help_shows() -> None:
    """Programs rely on them."""
    shown = rows(REFERENCE / "command-line.md", "Exit code")
    assert ", ".join(f"{code} {cells[0]}" for code, cells in shown.items()) == LEGEND


def test_the_page_on_the_command_line_explains_what_all_commands_share() -> None:
    """Where the jobs are, and JSON."""
    text = (REFERENCE / "command-line.md").read_text()
    shared = {parameter.opts[0] for parameter in typer.main.get_command(app).params} - {"--version", "--debug"}
    assert {"--stack", "--local", "--json"} < shared
    assert [option for option in sorted(shared) if option not in text] == []


def test_the_python_page_explains_every_public_name() -> None:
    """What is exported and not explained is a riddle; what is explained and not exported is a lie."""
    text = (REFERENCE / "python.md").read_text()
    explained = set(re.findall(r"`(\w+)", text))
    assert [name for name in relayq_core.__all__ if name not in explained] == []


def test_the_page_on_events_says_what_the_schema_says() -> None:
    """Fields, in the schema's order, and what each kind of event is called."""
    schema = json.loads((REFERENCE / "job-event.schema.json").read_text())
    assert list(rows(REFERENCE / "events.md", "Field")) == list(schema["properties"])
    named = {cells[0].strip("`"): title for title, cells in rows(REFERENCE / "events.md", "Detail type").items()}
    assert named == TITLES
    assert list(TITLES) == schema["properties"]["event"]["enum"]


def test_the_page_on_watching_lists_every_alarm_and_every_metric() -> None:
    """What can ring at night is explained by day."""
    page = ROOT / "docs/how-to/watch-and-alarm.md"
    resources = translate.read()["Resources"]
    alarms = [name for name, found in resources.items() if found["Type"] == "AWS::CloudWatch::Alarm"]
    assert list(rows(page, "Alarm")) == alarms
    assert f"{len(alarms)} alarms" in page.read_text()
    drawn = re.findall(r'\["RelayQ", "(\w+)"', resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    assert sorted(rows(page, "Metric")) == sorted(set(drawn))
    assert f"{len(set(drawn))} metrics" in page.read_text()

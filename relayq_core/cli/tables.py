"""`relayq tables create|delete`: create or delete the two tables, in the DynamoDB that the environment names."""

from __future__ import annotations

from typing import Any

import typer

from relayq_core.adapters.dynamodb.tables import TTL_ATTRIBUTE, failed_table, jobs_table
from relayq_core.cli.command import Cli, add_command_group, register_command
from relayq_core.cli.exit_codes import Stop
from relayq_core.cli.output import say
from relayq_core.cli.prompts import Yes, confirm
from relayq_core.cli.target import check_embedded
from relayq_core.settings import Settings

_DEFAULTS = {"RELAYQ_JOBS_TABLE": "relayq-jobs", "RELAYQ_FAILED_TABLE": "relayq-failed"}


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = add_command_group(app, "tables", help="Create or delete the two DynamoDB tables.")
    register_command(group, "create", example="AWS_ENDPOINT_URL=http://127.0.0.1:8000 relayq tables create")(create)
    register_command(group, "delete", example="AWS_ENDPOINT_URL=http://127.0.0.1:8000 relayq tables delete --yes")(
        delete
    )


def create(cli: Cli) -> None:
    """Create the two tables, for an emulator or to try RelayQ.

    A deployed stack has its own. The names are RELAYQ_JOBS_TABLE and RELAYQ_FAILED_TABLE, by default relayq-jobs and
    relayq-failed; the tables are created at AWS_ENDPOINT_URL_DYNAMODB, at AWS_ENDPOINT_URL, or in your AWS account. A
    table that exists is left alone. With --local: empty tables in .relayq/.

    JSON: {"tables": [{"name", "created"}], "endpoint"}
    """
    if cli.target.local:
        _create_local(cli)
        return
    jobs, failed = _get_names(cli.load_settings())
    dynamodb = cli.aws.get_client("dynamodb")
    answer = [
        {"name": shape["TableName"], "created": _create_table(dynamodb, shape)}
        for shape in (jobs_table(jobs), failed_table(failed))
    ]

    def show() -> None:
        for table in answer:
            say(f"{table['name']} {'created' if table['created'] else 'exists already'}", style="green")
        say("To use them:")
        say(f"  export RELAYQ_JOBS_TABLE={jobs} RELAYQ_FAILED_TABLE={failed}")

    cli.answer({"tables": answer, "endpoint": dynamodb.meta.endpoint_url}, show)


def delete(
    cli: Cli,
    yes: Yes = False,
) -> None:
    """Delete both tables, with every job in them.

    Asks for confirmation, unless --yes is given.

    JSON: {"tables": [{"name", "deleted"}], "endpoint"}
    """
    if cli.target.local:
        _delete_local(cli, yes=yes)
        return
    jobs, failed = _get_names(cli.load_settings())
    dynamodb = cli.aws.get_client("dynamodb")
    endpoint = dynamodb.meta.endpoint_url
    confirm(f"Delete {jobs} and {failed} at {endpoint}, with every job in them?", yes=yes, purpose="delete the tables")
    answer = [{"name": name, "deleted": _delete_table(dynamodb, name)} for name in (jobs, failed)]

    def show() -> None:
        for table in answer:
            say(f"{table['name']} {'deleted' if table['deleted'] else 'did not exist'}")

    cli.answer({"tables": answer, "endpoint": endpoint}, show)


def _create_local(cli: Cli) -> None:
    check_embedded()
    from relayq_core.local.state import FOLDER, exists

    created = not exists(FOLDER)
    cli.load_settings(begin=True)
    tables = [{"name": name, "created": created} for name in _DEFAULTS.values()]
    outcome = "created, and empty" if created else "exist already"
    cli.answer({"tables": tables, "endpoint": None}, lambda: say(f"tables in {FOLDER}/ {outcome}", style="green"))


def _delete_local(cli: Cli, *, yes: bool) -> None:
    check_embedded()
    from relayq_core.local.state import FOLDER, delete

    confirm(f"Delete the tables in {FOLDER}/, with every job in them?", yes=yes, purpose="delete the tables")
    deleted = delete(FOLDER)
    tables = [{"name": name, "deleted": deleted} for name in _DEFAULTS.values()]
    outcome = "deleted" if deleted else "did not exist"
    cli.answer({"tables": tables, "endpoint": None}, lambda: say(f"tables in {FOLDER}/ {outcome}"))


def _get_names(settings: Settings) -> tuple[str, str]:
    return (
        settings.jobs_table or _DEFAULTS["RELAYQ_JOBS_TABLE"],
        settings.failed_table or _DEFAULTS["RELAYQ_FAILED_TABLE"],
    )


def _create_table(dynamodb: Any, shape: dict[str, Any]) -> bool:
    """Create a table and let the rows of ended jobs expire; return False if it existed already."""
    name = shape["TableName"]
    try:
        dynamodb.create_table(**shape)
    except dynamodb.exceptions.ResourceInUseException:
        return False
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    ttl = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    try:
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    except dynamodb.exceptions.ClientError as error:
        # not every emulator supports it; expired rows count as gone in any case
        if error.response["Error"]["Code"] not in {"UnknownOperationException", "NotImplemented", "501"}:
            raise Stop(f"{name} was created, but its time to live could not be enabled: {error}") from error
    return True


def _delete_table(dynamodb: Any, name: str) -> bool:
    try:
        dynamodb.delete_table(TableName=name)
    except dynamodb.exceptions.ResourceNotFoundException:
        return False
    return True

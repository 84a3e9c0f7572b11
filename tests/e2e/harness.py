"""The emulator, and `sam` against it. What runs here is what is shipped: parameters are set, nothing patched."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3

from tests.support.paths import ROOT

SAM = os.environ.get("E2E_SAM", str(ROOT / ".venv-sam/bin/sam"))
#: the interpreter that ministack and, with it, every Lambda runs on
PYTHON = os.environ.get("E2E_PYTHON", str(ROOT / ".venv-e2e/bin/python"))
REGION = "eu-west-1"
ARCHITECTURE = "arm64" if os.uname().machine in {"arm64", "aarch64"} else "x86_64"


@dataclass(frozen=True)
class Emulator:
    """A running ministack. It checks every call against the IAM policies of its caller."""

    endpoint: str

    def environ(self, key: str = "test", secret: str = "test") -> dict[str, str]:
        """The AWS variables of a process that talks to it: as the account's root, unless a key is given."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client with the rights of the account's root."""
        return boto3.client(
            cast("Any", service),
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def sam(self, folder: Path, *arguments: str) -> str:
        """Run a sam command in a project. Fails with all it printed."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RELAYQ_"))}
        done = subprocess.run(
            [SAM, *arguments],
            cwd=folder,
            env={
                **inherited,
                **self.environ(),
                "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",  # RELAYQ_ARCH=host means this python3
                "RELAYQ_ARCH": "host",
                "SAM_CLI_TELEMETRY": "0",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"sam {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def deploy(self, folder: Path, stack: str, **parameters: str) -> dict[str, str]:
        """sam build and sam deploy a project; its outputs."""
        given = {"PythonRuntime": runtime(), "Architecture": ARCHITECTURE, **parameters}
        overrides = ["--parameter-overrides", *(f"{key}={_quoted(value)}" for key, value in given.items())]
        self.sam(folder, "build", *overrides)
        flags = ["--stack-name", stack, "--capabilities", "CAPABILITY_IAM", "--resolve-s3"]
        if (folder / "samconfig.toml").exists():
            flags = []  # it says all of that
        self.sam(folder, "deploy", *flags, *overrides)
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """The answer of a Lambda function. Fails if the function did."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def access_key(self, user: str, policy: str) -> tuple[str, str]:
        """The key of a new user who holds one policy and nothing else."""
        iam = self.client("iam")
        iam.create_user(UserName=user)
        iam.attach_user_policy(UserName=user, PolicyArn=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]


@contextmanager
def emulator(folder: Path) -> Iterator[Emulator]:
    """Start ministack on a free port of the loopback interface, and end it with all its Lambdas."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ |= {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    environ |= {"MINISTACK_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environ |= {"AUTH": "true", "IOT_MTLS_ENABLED": "0", "TMPDIR": str(folder)}
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "ministack.log").open("w") as log:
        command = [PYTHON, "-m", "ministack"]
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_it_answers(process, endpoint, folder / "ministack.log")
            yield Emulator(endpoint)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with its Lambdas, which it starts in its own group
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    for _ in range(150):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"ministack does not answer on {endpoint}\n{log.read_text()}")


def runtime() -> str:
    """The Lambda runtime that the emulator really uses: its own Python."""
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return version.stdout.strip()


def _quoted(value: str) -> str:
    """A parameter's value as sam reads it: JSON and lists in quotes, the quotes inside escaped."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def copied(source: Path, *names: str, to: Path) -> Path:
    """A project's shipped files in a folder where jobs may be added."""
    to.mkdir(parents=True)
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, to / name)
    return to

"""Start the stand-in for AWS, and make clients: tuned by hand, and with boto3's defaults."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relayq_core import RelayQ, Settings

ROOT = Path(__file__).parents[1]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
REGION = "us-east-1"


@dataclass(frozen=True)
class Stand:
    """Where the stand-in listens, and the file with its certificate, if it speaks TLS."""

    url: str
    trusted: str | None = None

    def connections(self) -> int:
        """Return how many connections it has accepted so far, without the one for this question."""
        with urllib.request.urlopen(self.url) as answer:
            return int(json.load(answer)["connections"]) - 1

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process that uses it as AWS."""
        trust = {"AWS_CA_BUNDLE": self.trusted} if self.trusted else {}
        return {
            **CREDENTIALS,
            **trust,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def start_stand(*, tls: bool = False, takes: float = 0.0) -> Iterator[Stand]:
    """Run the server for the block; each answer takes `takes` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        certificate = _write_certificate(Path(folder)) if tls else None
        command = [sys.executable, "-m", "benchmarks.server", "--takes", str(takes)]
        if certificate is not None:
            command += ["--certificate", str(certificate)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                yield Stand(f"{'https' if tls else 'http'}://127.0.0.1:{port}", str(certificate) if tls else None)
            finally:
                process.terminate()


@contextmanager
def set_environment(values: dict[str, str]) -> Iterator[None]:
    """Set these environment variables for the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_tuned_client(service: str) -> Any:
    """Return a client tuned by measurement: fixed user agent, no parameter validation."""
    session: Any = boto3.Session()
    return session.client(
        service, config=Config(user_agent="raw/1", parameter_validation=False, retries={"mode": "standard"})
    )


def make_default_client(service: str) -> Any:
    """Return a client as most code has it."""
    session: Any = boto3
    return session.client(service)


def build_relayq(jobs_table: str = "jobs", **more: Any) -> RelayQ:
    """Return RelayQ as an application has it."""
    return RelayQ(Settings(jobs_table=jobs_table, failed_table="failed", runner_function="runner"), **more)


@contextmanager
def record_calls(relayq: RelayQ, *services: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Record what this RelayQ sends in the block: the client's method and its arguments for each call."""
    seen: list[tuple[str, dict[str, Any]]] = []
    methods = {
        "PutItem": "put_item",
        "UpdateItem": "update_item",
        "TransactWriteItems": "transact_write_items",
        "Invoke": "invoke",
    }

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name in methods:
            seen.append((methods[model.name], dict(params)))

    events = [relayq.clients.get(service).meta.events for service in services]
    for each in events:
        each.register("provide-client-params", note)
    try:
        yield seen
    finally:
        for each in events:  # later measurements must not pay for it
            each.unregister("provide-client-params", note)


def _write_certificate(folder: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1, valid for a day, to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "stand.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path

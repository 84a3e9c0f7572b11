"""The webhook job: where it may go, and how TLS proves that it got there."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jobs.webhook
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jobs.webhook import WebhookFailed, is_public

from relayq_core import Bury
from tests.functions.webhook.receivers import (
    Dns,
    Receiver,
    post,
    receiving,
)

# -- where it may go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",  # where Lambda's runtime API is
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",  # where a server's credentials are
        "169.254.100.1",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.51.100.1",
        "203.0.113.1",
        "168.63.129.16",  # where a machine of Azure's finds its host
        "100.100.100.200",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::1]",
        "[2001:0:1::1]",
        "[2001:db8::1]",
        "[2001:1::1]",
        "[2001:20::1]",
        "[3fff::1]",
        "[3fff:fff:ffff::1]",
        "[5f00::1]",
        "[::ffff:168.63.129.16]",
        "[64:ff9b::168.63.129.16]",
        "[2002:a83f:8110::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[ff0e::1]",
    ],
)
def test_an_address_that_is_not_public_is_refused(host: str, connects: list[Any]) -> None:
    """A caller who may name a URL must not reach the runner's own network, however the address is spelt."""
    with pytest.raises(Bury, match=r"is not a public address.*WEBHOOK_ALLOW_PRIVATE"):
        post(f"http://{host}:9001/2018-06-01/runtime/invocation/next", {})
    assert connects == []


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_a_public_address_is_not_refused(address: str) -> None:
    """NAT64 is how IPv6 subnets reach most of the internet: such an address is judged by the one inside."""
    assert is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse(dns: Dns, connects: list[Any]) -> None:
    """Otherwise a failed connection to the first would lead to the second."""
    dns.names["hooks.example"] = [["93.184.215.14", "10.0.0.5"]]
    with pytest.raises(Bury, match=r"https://hooks.example is refused: 10\.0\.0\.5"):
        post("https://hooks.example/in", {})
    assert connects == []


def test_a_name_is_resolved_once_and_only_judged_addresses_are_connected_to(dns: Dns, connects: list[Any]) -> None:
    """DNS rebinding: public when it is judged, loopback a moment later. There is no later."""
    dns.names["hooks.example"] = [["93.184.215.14", "2606:4700::1"], ["127.0.0.1"]]
    with pytest.raises(WebhookFailed):
        post("https://hooks.example/in", {})
    assert dns.lookups == ["hooks.example"]
    assert connects == [("93.184.215.14", 443), ("2606:4700::1", 443, 0, 0)]


@pytest.mark.usefixtures("private_allowed")
def test_a_rebound_name_still_reaches_the_first_answer(dns: Dns) -> None:
    """The same with a real receiver: the bytes go where the judged address is."""
    with receiving() as receiver:
        dns.names["hooks.example"] = [["127.0.0.1"], ["203.0.113.1"]]
        assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("setting", ["", "false", "0", "no", "maybe"])
def test_only_a_clear_yes_opens_private_addresses(
    setting: str, monkeypatch: pytest.MonkeyPatch, connects: list[Any]
) -> None:
    """The template sets "false"; whatever is not understood must not open a door."""
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", setting)
    with pytest.raises(Bury):
        post("http://127.0.0.1:9001/", {})
    assert connects == []


def test_the_next_address_is_tried_when_one_refuses(receiver: Receiver, dns: Dns) -> None:
    """A host with an IPv6 address is no reason to fail on a network without IPv6."""
    dns.names["hooks.example"] = [["127.0.0.2", "127.0.0.1"]]
    assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}


def test_a_system_without_ipv6_goes_on_to_ipv4(receiver: Receiver, dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the socket itself cannot be made; the name service hands out such addresses all the same."""

    class OldSocket(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError("Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", OldSocket)
    dns.names["hooks.example"] = [["::1", "127.0.0.1"]]
    assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}


def test_an_address_that_swallows_packets_leaves_time_for_the_next(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead address of a host that is up must not use up the whole timeout on every attempt."""
    waits: list[float | None] = []

    def connect(sock: socket.socket, _address: Any) -> None:
        waits.append(sock.gettimeout())
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", connect)
    dns.names["hooks.example"] = [["93.184.215.14", "93.184.215.15"]]
    with pytest.raises(WebhookFailed, match="did not answer within 10 s"):
        post("https://hooks.example/in", {})
    first, second = waits
    assert first is not None
    assert second is not None
    assert 0 < first <= 5 < second <= 10


# -- TLS -----------------------------------------------------------------------------------------------------


@dataclass
class Authority:
    """A certificate authority that lives as long as a test."""

    folder: Path

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.BasicConstraints(ca=True, path_length=0)
        usage = _key_usage(key_cert_sign=True)
        certificate = (
            self._builder(self.name, self.key)
            .add_extension(ca, critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server needs to prove that it is one of these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), key)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_allowed: None) -> Iterator[Authority]:
    """An authority that this process trusts, as it would the system's."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    jobs.webhook.build_tls_context.cache_clear()
    yield authority
    jobs.webhook.build_tls_context.cache_clear()


def test_tls_proves_the_name_in_the_url_not_the_address(authority: Authority, dns: Dns) -> None:
    """The connection goes to a judged address; certificate, server name and Host must still be the URL's."""
    dns.names["hooks.example"] = [["127.0.0.1"]]
    with receiving(authority.server_context("hooks.example")) as receiver:
        assert post(f"https://hooks.example:{receiver.port}/in", {"a": 1}) == {"status": 200}
    assert receiver.server_names == ["hooks.example"]
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"
    assert receiver.requests[0].body == b'{"a": 1}'


def test_a_dot_at_the_end_of_a_name_is_for_the_lookup_alone(authority: Authority, dns: Dns) -> None:
    """It spares the search list of the resolver; no certificate has it, and SNI and Host must not."""
    dns.names["hooks.example."] = [["127.0.0.1"]]
    with receiving(authority.server_context("hooks.example")) as receiver:
        assert post(f"https://hooks.example.:{receiver.port}/in", {"a": 1}) == {"status": 200}
    assert dns.lookups == ["hooks.example."]
    assert receiver.server_names == ["hooks.example"]
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


def test_an_address_in_the_url_is_proved_too(authority: Authority) -> None:
    """https://127.0.0.1 is a name like any other, if a certificate has it."""
    with receiving(authority.server_context("127.0.0.1")) as receiver:
        assert post(receiver.url, {}) == {"status": 200}


@pytest.mark.parametrize("proved", ["other.example", "127.0.0.1"])
def test_a_certificate_for_another_name_gets_no_payload(authority: Authority, dns: Dns, proved: str) -> None:
    """The address that is connected to will not do either."""
    dns.names["hooks.example"] = [["127.0.0.1"]]
    with (
        receiving(authority.server_context(proved)) as receiver,
        pytest.raises(WebhookFailed, match=r"SSLCertVerificationError.*hooks\.example"),
    ):
        post(f"https://hooks.example:{receiver.port}/in", {})
    assert receiver.requests == []


def test_a_certificate_of_an_unknown_authority_gets_no_payload(authority: Authority, tmp_path: Path) -> None:
    """No authority vouches for it."""
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    with (
        receiving(stranger.server_context("127.0.0.1")) as receiver,
        pytest.raises(WebhookFailed, match="SSLCertVerificationError"),
    ):
        post(receiver.url, {})
    assert receiver.requests == []


def test_https_to_a_server_without_tls_is_tried_again(receiver: Receiver) -> None:
    """A port mixed up, or a proxy half way through its start."""
    with pytest.raises(WebhookFailed, match="SSLError"):
        post(f"https://127.0.0.1:{receiver.port}/", {})

"""Domains in ASCII: the same host that a browser would go to, or a refusal."""

from __future__ import annotations

import idna
import pytest
from jobs.domains import UnsafeDomain, encode_domain


@pytest.mark.parametrize(
    ("domain", "written"),
    [
        ("Example.COM", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("xn--fa-hia.de", "xn--fa-hia.de"),
    ],
)
def test_a_domain_is_written_as_dns_has_it(domain: str, written: str) -> None:
    """SES and sockets take nothing else."""
    assert encode_domain(domain) == written


@pytest.mark.parametrize(
    "domain",
    [
        "faß.example",
        "fa\u1e9e.example",
        "κλαρα-σωλις.example",
        "نم\u200cن.example",
        "क्\u200dष.example",
        "a\u00adb.example",
        "é" * 64 + ".example",
        "é." * 127 + "example",
        "a\u2024b.example",
    ],
)
def test_a_domain_that_two_rules_read_differently_is_refused(domain: str) -> None:
    """Both readings are registered, by different people: mail for one must not reach the other."""
    with pytest.raises(UnsafeDomain, match="xn-- form"):
        encode_domain(domain)


def test_no_character_leads_to_another_host_than_in_a_browser() -> None:
    """Each character of the basic plane (but for rows of ideographs): as UTS 46 maps it, or refused; few are."""
    taken = 0
    for char in map(chr, (*range(0x80, 0x3400), *range(0xA490, 0xAC00), *range(0xF900, 0x10000))):
        domain = f"a{char}b.example"
        try:
            written = encode_domain(domain)
        except UnsafeDomain:
            continue
        taken += 1
        mapped = idna.uts46_remap(domain, std3_rules=True, transitional=False)
        assert written == ".".join(map(_punycode, mapped.split("."))), hex(ord(char))
    assert taken > 5_000


def _punycode(label: str) -> str:
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"

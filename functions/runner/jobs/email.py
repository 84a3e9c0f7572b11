"""Send e-mail through Amazon SES: `send_email` and `send_templated_email`.

The runner needs permission to send (deploy with the parameter SesIdentityArn) and, unless each job names its
sender, the environment variable MAIL_FROM: an address, or `Name <address>`, that SES has verified.
"""

from __future__ import annotations

import functools
import json
import os
import re
from email.header import Header
from typing import TYPE_CHECKING, Any, TypeAlias

from jobs.domains import UnsafeDomain, encode_domain
from relayq_core import Bury, Exponential, job

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from types_boto3_sesv2 import SESV2Client
    from types_boto3_sesv2.type_defs import (
        BodyTypeDef,
        EmailContentTypeDef,
        SendEmailRequestTypeDef,
    )

Addresses: TypeAlias = str | list[str]

#: SES limits the mails per second: jobs that were throttled together should not be retried together.
_BACKOFF = Exponential(10, cap=600, jitter=0.5)

#: Refusals that will not change. Everything else (throttling, quotas, a paused account, faults) may pass.
_PERMANENT = {
    "AccessDeniedException": "the stack's parameter SesIdentityArn grants the identity to send as, of its own region",
    "AccountSuspendedException": "the account may no longer send mail; ask AWS support",
    "BadRequestException": "SES cannot read the message; check the addresses, the template and its data",
    "MailFromDomainNotVerifiedException": "verify the MAIL FROM domain in SES",
    "MessageRejected": "check that the sender is verified (in the sandbox: everyone), and the content",
    "NotFoundException": "the template or the configuration set is not in this account and region",
}

#: Seconds: SES answers in less than one, or not at all.
_TIMEOUT = 60
#: SES accepts no longer address, and no more recipients in one message.
_MOST_CHARS, _MOST_RECIPIENTS = 320, 50

#: Characters that may end a header's line: control characters and line separators.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Characters that separate or enclose addresses, and are part of none unless quoted.
_DELIMITERS = frozenset(' ,;:<>()[]"\\')
#: A name that contains one of these has to be quoted.
_SPECIALS = frozenset('()<>[]:;@\\,."')
#: Possessive, so that each word is scanned once, from its beginning.
_LOCAL_PART = re.compile(r"(?<![^\s<>\"',;:()/@])[^\s<>\"',;:()/@]++@")


@job(name="send_email", queue="emails", max_attempts=5, backoff=_BACKOFF, timeout=_TIMEOUT)
def send_email(
    to: Addresses,
    subject: str,
    *,
    text: str | None = None,
    html: str | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    sender: str | None = None,
    configuration_set: str | None = None,
) -> str:
    """Send one message, as plain text, as HTML, or as both; the result is the SES message id.

    `to`, `cc`, `bcc` and `reply_to` take one address, or `Name <address>`, or a list of them. SES allows 50
    recipients in total, and 320 characters per address; a name that makes it longer is left out. Recipients see
    each other (except `bcc`), so to send separate mails, dispatch a job for each.
    `sender` defaults to MAIL_FROM; `configuration_set` names the one whose events and settings apply.

    Raises Bury if there is no sender, no recipient or no body, if a value is not one address or contains a control
    character (addresses often come from forms), or if SES refuses for good. Throttling and faults are retried.
    SES has no idempotency key: if its response is lost, the mail is sent twice.
    """
    return _send(
        _build_message(
            _build_content(subject, text=text, html=html),
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            sender=sender,
            configuration_set=configuration_set,
        )
    )


@job(name="send_templated_email", queue="emails", max_attempts=5, backoff=_BACKOFF, timeout=_TIMEOUT)
def send_templated_email(
    to: Addresses,
    template: str,
    data: dict[str, Any] | None = None,
    *,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    sender: str | None = None,
    configuration_set: str | None = None,
) -> str:
    """Send one message made from a template stored in SES; the result is the SES message id.

    `template` is its name, `data` holds its variables; the rest is as in `send_email`. SES fills in the
    template after it has accepted the message: a variable that is missing in `data` shows up as a "rendering failure"
    event of the configuration set, not as a failed job.
    """
    return _send(
        _build_message(
            {"Template": {"TemplateName": template, "TemplateData": json.dumps(data or {})}},
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            sender=sender,
            configuration_set=configuration_set,
        )
    )


def _build_content(subject: str, *, text: str | None, html: str | None) -> EmailContentTypeDef:
    body: BodyTypeDef = {}
    if text is not None:
        body["Text"] = {"Data": text, "Charset": "UTF-8"}
    if html is not None:
        body["Html"] = {"Data": html, "Charset": "UTF-8"}
    if not body:
        raise Bury("the message has no body: give text, html, or both")
    if _BREAKS.search(subject.replace("\t", " ")):
        raise Bury("the subject holds a line break or another control character; send it as one line")
    return {"Simple": {"Subject": {"Data": subject, "Charset": "UTF-8"}, "Body": body}}


def _build_message(
    content: EmailContentTypeDef,
    *,
    to: Addresses,
    cc: Addresses | None,
    bcc: Addresses | None,
    reply_to: Addresses | None,
    sender: str | None,
    configuration_set: str | None,
) -> SendEmailRequestTypeDef:
    to_each, cc_each, bcc_each = _encode_addresses("to", to), _encode_addresses("cc", cc), _encode_addresses("bcc", bcc)
    count = sum(len(each) for each in (to_each, cc_each, bcc_each))
    if not count:
        raise Bury("the message has no recipient: give to, cc or bcc")
    if count > _MOST_RECIPIENTS:
        raise Bury(f"the message has {count} recipients, SES takes {_MOST_RECIPIENTS}: dispatch a job for each group")
    message: SendEmailRequestTypeDef = {
        "FromEmailAddress": _encode_or_bury("sender", sender or _read_mail_from()),
        "Destination": {"ToAddresses": to_each, "CcAddresses": cc_each, "BccAddresses": bcc_each},
        "ReplyToAddresses": _encode_addresses("reply_to", reply_to),
        "Content": content,
    }
    if configuration_set:
        message["ConfigurationSetName"] = configuration_set
    return message


def _read_mail_from() -> str:
    address = os.environ.get("MAIL_FROM", "").strip()
    if not address:
        raise Bury(
            "the message has no sender: give sender, or set MAIL_FROM in the runner's environment "
            "(the stack's parameter MailFrom) to an address that SES has verified"
        )
    return address


def _encode_addresses(field: str, addresses: Addresses | None) -> list[str]:
    """Return the addresses of a field as SES accepts them. Raises Bury."""
    one_or_many = [addresses] if isinstance(addresses, str) else addresses or []
    if len(one_or_many) > _MOST_RECIPIENTS:
        raise Bury(f"{field}: {len(one_or_many)} addresses, SES takes {_MOST_RECIPIENTS} in one message")
    return [_encode_or_bury(field, address) for address in one_or_many if address]


def _encode_or_bury(field: str, address: str) -> str:
    try:
        return _encode_address(address)
    except ValueError as error:
        raise Bury(f"{field}: {error}") from None  # without the address: reasons are kept for months


def _encode_address(address: str) -> str:
    """Return the address in ASCII, which is all that SES accepts: the name by RFC 2047, the domain in Punycode.

    A mailbox that is not ASCII is left as it is, for SES to refuse. Raises ValueError, without showing the address,
    if it is not the address of one mailbox.
    """
    if _BREAKS.search(address):
        raise ValueError("an address holds a line break or another control character")
    name, bare = _split_address(address.strip(" "))
    mailbox, at, domain = bare.rpartition("@")
    if len(bare) > _MOST_CHARS or not (at and domain and _is_mailbox(mailbox)) or not _DELIMITERS.isdisjoint(domain):
        raise ValueError(
            f"expected one address, such as ada@example.com or Ada <ada@example.com>, of at most {_MOST_CHARS} "
            "characters; several are a list"
        )
    try:
        plain = f"{mailbox}@{encode_domain(domain)}" if not domain.isascii() else bare
    except UnsafeDomain:
        raise ValueError("the domain of an address has no unambiguous ASCII form; give it in its xn-- form") from None
    named = f"{_encode_name(name)} <{plain}>" if name and len(name) <= _MOST_CHARS else plain
    return named if len(named) <= _MOST_CHARS else plain


def _split_address(address: str) -> tuple[str, str]:
    """Split `Name <address>`; the name may be empty. Raises ValueError for a name that may hide another address."""
    if not address.endswith(">"):
        return "", address
    name, _, bare = address[:-1].rpartition("<")
    name = name.strip(" ")
    if (quoted := _unquote(name)) is not None:
        return quoted, bare
    if not {"<", ">", "@"}.isdisjoint(name):
        raise ValueError("expected one address, found the signs of several in its name; several are a list")
    return name, bare


def _unquote(name: str) -> str | None:
    """Return the text inside the quotes around a name; None if they do not enclose all of it."""
    if len(name) < 2 or not (name[0] == name[-1] == '"'):
        return None
    inner, escaped = [], False
    for char in name[1:-1]:
        if char == '"' and not escaped:
            return None
        escaped = char == "\\" and not escaped
        if not escaped:
            inner.append(char)
    return None if escaped else "".join(inner)


def _is_mailbox(local_part: str) -> bool:
    """Return whether a text may be the part before the @: a word, or anything in quotes."""
    if _unquote(local_part) is not None:
        return True
    return bool(local_part) and "@" not in local_part and _DELIMITERS.isdisjoint(local_part)


def _encode_name(name: str) -> str:
    """Return the name as written before an address: quoted if necessary, encoded by RFC 2047 if it is not ASCII."""
    if not name.isascii():
        return Header(name, "utf-8", maxlinelen=75).encode(linesep="")
    if _SPECIALS.isdisjoint(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _send(message: SendEmailRequestTypeDef) -> str:
    # imported here, since a caller that only dispatches these jobs needs no boto3
    from botocore.exceptions import ClientError, ParamValidationError  # noqa: PLC0415

    try:
        return build_ses_client().send_email(**message)["MessageId"]
    except ClientError as error:
        if (reason := _describe_refusal(error)) is not None:
            raise Bury(reason) from None  # the cause would show the addresses
        raise
    except ParamValidationError as error:
        raise Bury(f"SES cannot take this message: {error}") from None


def _describe_refusal(error: ClientError) -> str | None:
    """Return why SES will never send this and what to do, without mailbox names; None if a retry may succeed."""
    code = error.response["Error"].get("Code", "")
    if code not in _PERMANENT:
        return None
    message = _LOCAL_PART.sub("***@", error.response["Error"].get("Message", ""))
    return f"SES refused the message ({code}: {message.rstrip('.')}); {_PERMANENT[code]}"


@functools.cache
def build_ses_client() -> SESV2Client:
    """Build the SES client of this process, when the first mail is sent.

    It makes one attempt. RelayQ retries with its backoff; botocore's own retries, within a second of a lost
    response, would turn one mail into three.
    """
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client(
        "sesv2",
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
    )

"""Send e-mail through Amazon SES: `send_email` and `send_templated_email`.

The runner needs the right to send (deploy with the parameter SesIdentityArn) and, unless each job names its
sender, the environment variable MAIL_FROM: an address, or `Name <address>`, that SES has verified.
"""

from __future__ import annotations

import functools
import json
import os
import re
from email.header import Header
from typing import TYPE_CHECKING, Any, TypeAlias

from jobs.domains import UnsafeDomain, ascii_domain
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

#: SES limits the mails per second: jobs that it throttled together should not come back together.
_BACKOFF = Exponential(10, cap=600, jitter=0.5)

#: What SES will say again tomorrow. Everything else (throttling, quotas, a paused account, faults) may pass.
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
#: SES takes no longer address, and no more recipients in one message.
_MOST_CHARS, _MOST_RECIPIENTS = 320, 50

#: What ends a header's line, or may: a control character or a separator of lines.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: What stands between addresses or around them, and in none of them unless it is quoted.
_DELIMITERS = frozenset(' ,;:<>()[]"\\')
#: With one of these in it a name has to be quoted.
_SPECIALS = frozenset('()<>[]:;@\\,."')
#: Each word is looked at once, and from its beginning.
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
    recipients in all, and 320 characters for an address; a name that makes it longer is left out. Recipients see
    each other (but for `bcc`), so for a mail to each, dispatch a job for each.
    `sender` is MAIL_FROM unless given; `configuration_set` names the one whose events and settings apply.

    Raises Bury when there is no sender, no recipient or no body, for what is not one address or holds a control
    character (addresses often come from forms), or when SES refuses for good. Throttling and faults are retried.
    SES knows no idempotency key: should its answer be lost, the mail is sent twice.
    """
    return _send(
        _message(
            _simple(subject, text=text, html=html),
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
    """Send one message made from a template that is kept in SES; the result is the SES message id.

    `template` is its name, `data` gives its variables; the rest is as in `send_email`. SES fills in the
    template after it has accepted the message: a variable that `data` lacks shows up as a "rendering failure"
    event of the configuration set, not as a failed job.
    """
    return _send(
        _message(
            {"Template": {"TemplateName": template, "TemplateData": json.dumps(data or {})}},
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            sender=sender,
            configuration_set=configuration_set,
        )
    )


def _simple(subject: str, *, text: str | None, html: str | None) -> EmailContentTypeDef:
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


def _message(
    content: EmailContentTypeDef,
    *,
    to: Addresses,
    cc: Addresses | None,
    bcc: Addresses | None,
    reply_to: Addresses | None,
    sender: str | None,
    configuration_set: str | None,
) -> SendEmailRequestTypeDef:
    to_each, cc_each, bcc_each = _each("to", to), _each("cc", cc), _each("bcc", bcc)
    count = sum(len(each) for each in (to_each, cc_each, bcc_each))
    if not count:
        raise Bury("the message has no recipient: give to, cc or bcc")
    if count > _MOST_RECIPIENTS:
        raise Bury(f"the message has {count} recipients, SES takes {_MOST_RECIPIENTS}: dispatch a job for each group")
    message: SendEmailRequestTypeDef = {
        "FromEmailAddress": _one("sender", sender or _mail_from()),
        "Destination": {"ToAddresses": to_each, "CcAddresses": cc_each, "BccAddresses": bcc_each},
        "ReplyToAddresses": _each("reply_to", reply_to),
        "Content": content,
    }
    if configuration_set:
        message["ConfigurationSetName"] = configuration_set
    return message


def _mail_from() -> str:
    address = os.environ.get("MAIL_FROM", "").strip()
    if not address:
        raise Bury(
            "the message has no sender: give sender, or set MAIL_FROM in the runner's environment "
            "(the stack's parameter MailFrom) to an address that SES has verified"
        )
    return address


def _each(field: str, addresses: Addresses | None) -> list[str]:
    """The addresses of a field as SES takes them. Raises Bury."""
    one_or_many = [addresses] if isinstance(addresses, str) else addresses or []
    if len(one_or_many) > _MOST_RECIPIENTS:
        raise Bury(f"{field}: {len(one_or_many)} addresses, SES takes {_MOST_RECIPIENTS} in one message")
    return [_one(field, address) for address in one_or_many if address]


def _one(field: str, address: str) -> str:
    try:
        return _encoded(address)
    except ValueError as error:
        raise Bury(f"{field}: {error}") from None  # without the address: reasons are kept for months


def _encoded(address: str) -> str:
    """The address in ASCII, which is all that SES takes: the name as RFC 2047, the domain as Punycode has it.

    A mailbox that is not ASCII is left as it is, for SES to refuse. Raises ValueError, without showing the address,
    for what is not the address of one mailbox.
    """
    if _BREAKS.search(address):
        raise ValueError("an address holds a line break or another control character")
    name, bare = _name_and_address(address.strip(" "))
    mailbox, at, domain = bare.rpartition("@")
    if len(bare) > _MOST_CHARS or not (at and domain and _is_mailbox(mailbox)) or not _DELIMITERS.isdisjoint(domain):
        raise ValueError(
            f"expected one address, such as ada@example.com or Ada <ada@example.com>, of at most {_MOST_CHARS} "
            "characters; several are a list"
        )
    try:
        plain = f"{mailbox}@{ascii_domain(domain)}" if not domain.isascii() else bare
    except UnsafeDomain:
        raise ValueError(
            "the domain of an address cannot be written in ASCII without doubt; give it in its xn-- form"
        ) from None
    named = f"{_phrase(name)} <{plain}>" if name and len(name) <= _MOST_CHARS else plain
    return named if len(named) <= _MOST_CHARS else plain


def _name_and_address(address: str) -> tuple[str, str]:
    """`Name <address>` taken apart, or no name. Raises ValueError for a name in which another address may hide."""
    if not address.endswith(">"):
        return "", address
    name, _, bare = address[:-1].rpartition("<")
    name = name.strip(" ")
    if (quoted := _unquoted(name)) is not None:
        return quoted, bare
    if not {"<", ">", "@"}.isdisjoint(name):
        raise ValueError("expected one address, found the signs of several in its name; several are a list")
    return name, bare


def _unquoted(name: str) -> str | None:
    """What stands in the quotes around a name; None where they are not around the whole of it."""
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
    """What stands before the @: a word, or anything in quotes."""
    if _unquoted(local_part) is not None:
        return True
    return bool(local_part) and "@" not in local_part and _DELIMITERS.isdisjoint(local_part)


def _phrase(name: str) -> str:
    """The name as it stands before an address: quoted where it must be, in words of RFC 2047 where it is not ASCII."""
    if not name.isascii():
        return Header(name, "utf-8", maxlinelen=75).encode(linesep="")
    if _SPECIALS.isdisjoint(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _send(message: SendEmailRequestTypeDef) -> str:
    # imported here, for whoever only dispatches these jobs needs no boto3
    from botocore.exceptions import ClientError, ParamValidationError  # noqa: PLC0415

    try:
        return ses_client().send_email(**message)["MessageId"]
    except ClientError as error:
        if (reason := _refusal(error)) is not None:
            raise Bury(reason) from None  # the cause would show the addresses
        raise
    except ParamValidationError as error:
        raise Bury(f"this is no message for SES: {error}") from None


def _refusal(error: ClientError) -> str | None:
    """Why SES will never send this, with what to do and without anyone's mailbox; None if it may yet."""
    code = error.response["Error"].get("Code", "")
    if code not in _PERMANENT:
        return None
    said = _LOCAL_PART.sub("***@", error.response["Error"].get("Message", ""))
    return f"SES refused the message ({code}: {said.rstrip('.')}); {_PERMANENT[code]}"


@functools.cache
def ses_client() -> SESV2Client:
    """The SES client of this process, made when the first mail is sent.

    It makes one try. RelayQ retries with its backoff; botocore's own retries, within a second of an answer
    that was lost, are how one mail becomes three.
    """
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client(
        "sesv2",
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
    )

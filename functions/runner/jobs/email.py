"""Send e-mail through Amazon SES: `send_email` and `send_templated_email`.

The runner needs the right to send (deploy with the parameter SesIdentityArn) and, unless each job names its
sender, the environment variable MAIL_FROM: an address, or `Name <address>`, that SES has verified.
"""

from __future__ import annotations

import functools
import json
import os
import re
from email.utils import formataddr
from typing import TYPE_CHECKING, Any, TypeAlias

from relayq_core import Bury, Exponential, job

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from types_boto3_sesv2 import SESV2Client
    from types_boto3_sesv2.type_defs import (
        BodyTypeDef,
        DestinationTypeDef,
        EmailContentTypeDef,
        SendEmailRequestTypeDef,
    )

Addresses: TypeAlias = str | list[str]

#: SES limits the mails per second: jobs that it throttled together should not come back together.
_BACKOFF = Exponential(10, cap=600, jitter=0.5)

#: What SES will say again tomorrow. Everything else (throttling, quotas, a paused account, faults) may pass.
_PERMANENT = {
    "AccessDeniedException": "the stack's parameter SesIdentityArn grants the identity to send as",
    "AccountSuspendedException": "the account may no longer send mail; ask AWS support",
    "BadRequestException": "SES cannot read the message; check the addresses, the template and its data",
    "MailFromDomainNotVerifiedException": "verify the MAIL FROM domain in SES",
    "MessageRejected": "check that the sender is verified (in the sandbox: everyone), and the content",
    "NotFoundException": "the template or the configuration set is not in this account and region",
}

_NAME_AND_ADDRESS = re.compile(r'\s*"?(?P<name>.*?)"?\s*<(?P<address>[^<>]+)>\s*')
_LOCAL_PART = re.compile(r"[^\s<>\"',;:()/]+@")


@job(name="send_email", queue="emails", max_attempts=5, backoff=_BACKOFF)
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
    recipients in all; they see each other (but for `bcc`), so for a mail to each, dispatch a job for each.
    `sender` is MAIL_FROM unless given; `configuration_set` names the one whose events and settings apply.

    Raises Bury when there is no sender, no recipient or no body, or when SES refuses for good. Throttling and
    faults are retried. SES knows no idempotency key: should its answer be lost, the mail is sent twice.
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


@job(name="send_templated_email", queue="emails", max_attempts=5, backoff=_BACKOFF)
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
    recipients: DestinationTypeDef = {
        "ToAddresses": _each(to),
        "CcAddresses": _each(cc),
        "BccAddresses": _each(bcc),
    }
    if not any(recipients.values()):
        raise Bury("the message has no recipient: give to, cc or bcc")
    message: SendEmailRequestTypeDef = {
        "FromEmailAddress": _encoded(sender or _mail_from()),
        "Destination": recipients,
        "ReplyToAddresses": _each(reply_to),
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


def _each(addresses: Addresses | None) -> list[str]:
    one_or_many = [addresses] if isinstance(addresses, str) else addresses or []
    return [_encoded(address) for address in one_or_many if address]


def _encoded(address: str) -> str:
    """The address in ASCII, which is all that SES takes: the name as RFC 2047, the domain as Punycode has it.

    What cannot be written so is left as it is, for SES to refuse.
    """
    if address.isascii():
        return address
    named = _NAME_AND_ADDRESS.fullmatch(address)
    name, bare = (named["name"], named["address"]) if named else ("", address)
    mailbox, _, domain = bare.rpartition("@")
    try:
        return formataddr((name, f"{mailbox}@{domain.encode('idna').decode()}"))
    except UnicodeError:
        return address


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

"""The e-mail jobs: what SES is asked to send, and what becomes of its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import jobs.email
import pytest
from botocore.stub import Stubber
from jobs.email import send_email, send_templated_email
from moto import mock_aws
from moto.ses.models import Message, ses_backends

from relayq_core import Bury, InvalidPayload

REGION = "eu-west-1"
MOTO_ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def runner_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the runner Lambda finds in its environment; the keys lead nowhere."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("MAIL_FROM", "Shop <shop@example.com>")


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """SES, answering only what a test expects, each parameter included."""
    client = boto3.client("sesv2", region_name=REGION)
    monkeypatch.setattr(jobs.email, "build_ses_client", lambda: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
    client.close()


def a_message(**changes: Any) -> dict[str, Any]:
    """The call that the smallest send_email makes."""
    return {
        "FromEmailAddress": "Shop <shop@example.com>",
        "Destination": {"ToAddresses": ["ada@example.org"], "CcAddresses": [], "BccAddresses": []},
        "ReplyToAddresses": [],
        "Content": {
            "Simple": {
                "Subject": {"Data": "Hello", "Charset": "UTF-8"},
                "Body": {"Text": {"Data": "Hi", "Charset": "UTF-8"}},
            }
        },
        **changes,
    }


def expect(ses: Stubber, message: dict[str, Any], message_id: str = "m-1") -> None:
    ses.add_response("send_email", {"MessageId": message_id}, message)


def refuse(ses: Stubber, code: str, message: str = "No.", status: int = 400) -> None:
    ses.add_client_error("send_email", code, message, http_status_code=status)


# -- what is sent --------------------------------------------------------------------------------------------


def test_the_smallest_mail_is_an_address_a_subject_and_a_text(ses: Stubber) -> None:
    """A first e-mail must need nothing else, and its result is what SES's events call it."""
    expect(ses, a_message(), message_id="0102-abc")
    assert send_email("ada@example.org", "Hello", text="Hi") == "0102-abc"


def test_everything_that_was_given_reaches_ses(ses: Stubber) -> None:
    """A field that is silently dropped is found out by the recipients."""
    expect(
        ses,
        {
            "FromEmailAddress": "billing@example.com",
            "Destination": {
                "ToAddresses": ["ada@example.org", "Bob <bob@example.org>"],
                "CcAddresses": ["carol@example.org"],
                "BccAddresses": ["dave@example.org", "eve@example.org"],
            },
            "ReplyToAddresses": ["help@example.com"],
            "Content": {
                "Simple": {
                    "Subject": {"Data": "Grüße ✉", "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": "Schöne Grüße", "Charset": "UTF-8"},
                        "Html": {"Data": "<p>Schöne Grüße</p>", "Charset": "UTF-8"},
                    },
                }
            },
            "ConfigurationSetName": "tracked",
        },
    )
    send_email(
        ["ada@example.org", "Bob <bob@example.org>"],
        "Grüße ✉",
        text="Schöne Grüße",
        html="<p>Schöne Grüße</p>",
        cc="carol@example.org",
        bcc=["dave@example.org", "eve@example.org"],
        reply_to="help@example.com",
        sender="billing@example.com",
        configuration_set="tracked",
    )


def test_a_template_is_sent_with_its_data(ses: Stubber) -> None:
    """SES takes the data as a JSON text; the job takes it as it is."""
    content = {"Template": {"TemplateName": "welcome", "TemplateData": '{"name": "Ada", "items": [1, 2]}'}}
    expect(ses, a_message(Content=content), message_id="m-2")
    assert send_templated_email("ada@example.org", "welcome", {"name": "Ada", "items": [1, 2]}) == "m-2"


def test_a_template_without_variables_needs_no_data(ses: Stubber) -> None:
    """SES insists on the field: it is an empty object then."""
    content = {"Template": {"TemplateName": "welcome", "TemplateData": "{}"}}
    expect(ses, a_message(Content=content))
    send_templated_email("ada@example.org", "welcome")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Zoë Müller <zoe@example.org>", "=?utf-8?b?Wm/DqyBNw7xsbGVy?= <zoe@example.org>"),
        ('"Müller, Zoë" <zoe@example.org>', "=?utf-8?b?TcO8bGxlciwgWm/Dqw==?= <zoe@example.org>"),
        ("zoe@bücher.example", "zoe@xn--bcher-kva.example"),
        ("Zoë <zoe@bücher.example>", "=?utf-8?q?Zo=C3=AB?= <zoe@xn--bcher-kva.example>"),
        ('"Doe, John" <john@example.org>', '"Doe, John" <john@example.org>'),
        ("zoë@example.org", "zoë@example.org"),
    ],
)
def test_names_and_domains_in_any_language_are_written_as_ses_wants_them(ses: Stubber, given: str, sent: str) -> None:
    """SES takes ASCII only; most names are not. A mailbox that is not ASCII is its to refuse."""
    expect(ses, a_message(Destination={"ToAddresses": [sent], "CcAddresses": [], "BccAddresses": []}))
    send_email(given, "Hello", text="Hi")


# -- what cannot be sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", ["", "  ", None])
def test_a_mail_without_a_sender_is_buried_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, configured: str | None
) -> None:
    """The template sets MAIL_FROM to nothing by default, so this is everybody's first mistake."""
    if configured is None:
        monkeypatch.delenv("MAIL_FROM")
    else:
        monkeypatch.setenv("MAIL_FROM", configured)
    with pytest.raises(Bury, match="no sender: give sender, or set MAIL_FROM"):
        send_email("ada@example.org", "Hello", text="Hi")


@pytest.mark.parametrize("nobody", ["", [], [""]])
def test_a_mail_without_a_recipient_is_buried(nobody: str | list[str]) -> None:
    """No retry finds a recipient."""
    with pytest.raises(Bury, match="no recipient"):
        send_email(nobody, "Hello", text="Hi")


def test_a_mail_to_blind_copies_alone_is_sent(ses: Stubber) -> None:
    """A circular whose readers do not see each other has an empty To line."""
    recipients = {"ToAddresses": [], "CcAddresses": [], "BccAddresses": ["a@example.org", "b@example.org"]}
    expect(ses, a_message(Destination=recipients))
    send_email([], "Hello", text="Hi", bcc=["a@example.org", "b@example.org"])


def test_a_mail_without_text_and_html_is_buried() -> None:
    """SES would answer with a riddle."""
    with pytest.raises(Bury, match="give text, html, or both"):
        send_email("ada@example.org", "Hello")


def test_a_template_without_a_name_is_buried() -> None:
    """botocore refuses it before it is sent; that is no reason to try five times."""
    with pytest.raises(Bury, match="TemplateName"):
        send_templated_email("ada@example.org", "")


def test_a_misspelt_field_is_refused_at_dispatch() -> None:
    """The caller should hear of it, not the failed table."""
    with pytest.raises(InvalidPayload, match="no such field"):
        send_email.__relayq_type__.encode({"to": "ada@example.org", "subject": "Hello", "test": "Hi"})


# -- what may have come from a form -----------------------------------------------------------------------------

BREAKS = ["\r", "\n", "\r\nBcc: evil@example.net", "\0", "\x0b", "\x1b[31m", "\x85", "\u2028", "\ud800"]


@pytest.mark.parametrize("field", ["to", "cc", "bcc", "reply_to", "sender", "subject"])
@pytest.mark.parametrize("evil", BREAKS)
def test_a_control_character_in_a_header_buries_the_mail(field: str, evil: str) -> None:
    """A line break in a header begins another header, and SES alone would stand between. No address is shown."""
    given: dict[str, Any] = {"to": "ada@example.org", "subject": "Hello", "text": "Hi"}
    for written in (f"Ada{evil} <ada@example.org>", f"Zoë{evil} <ada@bücher.example>", f"ada@example.org{evil}"):
        with pytest.raises(Bury, match="control character") as buried:
            send_email(**{**given, field: written})
        assert "ada@" not in str(buried.value)


@pytest.mark.parametrize(
    "several",
    [
        "ada@example.org, evil@example.net",
        "ada@example.org,evil@example.net",
        "ada@example.org;evil@example.net",
        "ada@example.org evil@example.net",
        "Ada <ada@example.org>, Eve <evil@example.net>",
        "Zoë <ada@example.org>, Eve <evil@example.net>",
        '"Zoë" <ada@example.org>, "Eve" <evil@example.net>',
        "ada@example.org, Zoë <evil@example.net>",
        "friends: ada@example.org, evil@example.net;",
        "Ada <ada@example.org> <evil@example.net>",
        "ada@evil@example.net",
        "<ada@example.org",
        "ada@",
        "ada",
    ],
)
@pytest.mark.parametrize("field", ["to", "cc", "bcc", "reply_to", "sender"])
def test_what_is_not_one_address_buries_the_mail(field: str, several: str) -> None:
    """One field of a form is one recipient: else a stranger sends mail, in your name, to whom he likes."""
    given: dict[str, Any] = {"to": "ada@example.org", "subject": "Hello", "text": "Hi"}
    with pytest.raises(Bury, match=f"{field}: expected one address"):
        send_email(**{**given, field: several})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Doe, John <john@example.org>", '"Doe, John" <john@example.org>'),
        ('J. "Q" Public <j@example.org>', '"J. \\"Q\\" Public" <j@example.org>'),
        ('"me@home" <j@example.org>', '"me@home" <j@example.org>'),
        (" ada@example.org ", "ada@example.org"),
        ('"a b"@example.org', '"a b"@example.org'),
        ("x" * 321 + " <ada@example.org>", "ada@example.org"),
        ("名" * 90 + " <ada@example.org>", "ada@example.org"),
    ],
)
def test_a_name_is_quoted_where_it_must_be_and_left_out_where_it_is_too_long(
    ses: Stubber, given: str, sent: str
) -> None:
    """SES refuses more than 320 characters: the mail matters more than the name."""
    expect(ses, a_message(Destination={"ToAddresses": [sent], "CcAddresses": [], "BccAddresses": []}))
    send_email(given, "Hello", text="Hi")


@pytest.mark.parametrize("name", ["名" * 20, "名" * 60, "Zoë " * 20, "é" * 75, "\N{GRINNING FACE}" * 40])
def test_a_name_in_any_language_is_words_of_at_most_75_characters(name: str) -> None:
    """What RFC 2047 allows; a reader of mail may show a longer one as it stands."""
    written, _, address = jobs.email._encode_address(f"{name} <ada@example.org>").rpartition(" ")
    assert address == "<ada@example.org>"
    assert all(len(word) <= 75 for word in written.split(" "))
    assert str(make_header(decode_header(written))) == name.strip()


@pytest.mark.parametrize("length", [2_000, 300_000])
@pytest.mark.parametrize(
    "shape", [" {n}Ü", '"{n}Ü', "Ü{n}<a@b.c", "Ü <{n}", "Ü {n}<a@b.c>", "{n}@Ü", "a@{n}.Ü", '"{q}Ü" <a@b.c>']
)
def test_no_address_takes_longer_than_it_is_long(shape: str, length: int) -> None:
    """Recipients come from forms: a pattern that tries each split of 50,000 blanks does not end today."""
    for filler in (" ", "a", '"', "<", "\\", ".", "Ü", "="):
        address = shape.format(n=filler * length, q='\\"' * length)
        try:
            written = jobs.email._encode_address(address)
        except ValueError:
            continue
        assert len(written) <= 320


def test_an_address_and_a_list_are_no_longer_than_ses_takes_them(ses: Stubber) -> None:
    """SES would refuse the whole message, after each of five tries had sent it all over."""
    longest = "a" * 64 + "@" + "b" * 251 + ".org"
    recipients = {"ToAddresses": [longest] * 49, "CcAddresses": ["ada@example.org"], "BccAddresses": []}
    expect(ses, a_message(Destination=recipients))
    send_email([longest] * 49, "Hello", text="Hi", cc="ada@example.org")
    with pytest.raises(Bury, match="at most 320"):
        send_email("a" + longest, "Hello", text="Hi")
    with pytest.raises(Bury, match="51 recipients, SES takes 50"):
        send_email(["ada@example.org"] * 49, "Hello", text="Hi", cc="ada@example.org", bcc="ada@example.org")
    with pytest.raises(Bury, match="to: 51 addresses"):
        send_email(["ada@example.org"] * 51, "Hello", text="Hi")
    with pytest.raises(Bury, match="reply_to: 51 addresses"):
        send_email("ada@example.org", "Hello", text="Hi", reply_to=["ada@example.org"] * 51)


@pytest.mark.parametrize("domain", ["faß.example", "κλαρα-σωλις.ευ", "a\u200cb.example", "a\u200db.example"])
def test_a_domain_that_two_rules_read_differently_is_not_guessed(domain: str) -> None:
    """The older rules, which Python has, make another domain of it, and so another reader of the mail."""
    with pytest.raises(Bury, match="xn--"):
        send_email(f"zoe@{domain}", "Hello", text="Hi")


@pytest.mark.parametrize("name", ["send_email", "send_templated_email"])
def test_a_mail_has_a_timeout(name: str) -> None:
    """Without one it runs as long as its runner, which is billed."""
    assert getattr(jobs.email, name).__relayq_type__.options.timeout == 60


# -- what SES refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "AccountSuspendedException",
        "BadRequestException",
        "MailFromDomainNotVerifiedException",
        "MessageRejected",
        "NotFoundException",
    ],
)
def test_what_ses_refuses_for_good_is_buried(ses: Stubber, code: str) -> None:
    """Five tries at it would only delay the news."""
    refuse(ses, code)
    with pytest.raises(Bury, match=code):
        send_email("ada@example.org", "Hello", text="Hi")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("LimitExceededException", 400),
        ("SendingPausedException", 400),
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
    ],
)
def test_a_refusal_of_ses_that_may_pass_is_tried_again(ses: Stubber, code: str, status: int) -> None:
    """A throttled or paused account sends the mail later; any exception but Bury is a retry."""
    refuse(ses, code, status=status)
    with pytest.raises(botocore.exceptions.ClientError, match=code):
        send_email("ada@example.org", "Hello", text="Hi")


def test_a_missing_grant_names_the_parameter_that_gives_it(ses: Stubber) -> None:
    """Without SesIdentityArn the stack has no right to send mail; the failed table should say so."""
    refuse(ses, "AccessDeniedException", "User x is not authorized to perform ses:SendEmail", 403)
    with pytest.raises(Bury, match=r"not authorized to perform ses:SendEmail.*SesIdentityArn"):
        send_email("ada@example.org", "Hello", text="Hi")


def test_the_reason_of_a_refusal_hides_whose_mailbox_it_was(ses: Stubber) -> None:
    """Reasons are stored for months, and shown to every operator of the system; the domain is what helps."""
    refuse(
        ses,
        "MessageRejected",
        "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
        "Ada <ada.l@example.org>, arn:aws:ses:eu-west-1:123456789012:identity/shop@example.com",
    )
    with pytest.raises(Bury) as buried:
        send_email("ada@example.org", "Hello", text="Hi")
    assert "<***@example.org>" in str(buried.value)
    assert "identity/***@example.com" in str(buried.value)
    assert "ada" not in str(buried.value)
    assert buried.value.__suppress_context__, "the cause would show the address in every log"


# -- the client ----------------------------------------------------------------------------------------------


@pytest.fixture
def moto_ses() -> Iterator[list[Message]]:
    """moto's SES, with one verified sender; it knows no templates. Gives the mails it has taken."""
    with mock_aws():
        jobs.email.build_ses_client.cache_clear()
        jobs.email.build_ses_client().create_email_identity(EmailIdentity="shop@example.com")
        yield ses_backends[MOTO_ACCOUNT][REGION].sent_messages
        jobs.email.build_ses_client().close()
        jobs.email.build_ses_client.cache_clear()


def test_a_mail_goes_out_through_the_client_of_the_process(moto_ses: list[Message]) -> None:
    """The stubbed tests never make the real client; this one does, and sends two mails with it."""
    first = send_email("ada@example.org", "Hello", text="Hi")
    second = send_email("bob@example.org", "Hello", html="<p>Hi</p>")
    assert [(mail.id, mail.destinations["ToAddresses"], mail.body) for mail in moto_ses] == [
        (first, ["ada@example.org"], "Hi"),
        (second, ["bob@example.org"], "<p>Hi</p>"),
    ]


def test_a_sender_that_ses_does_not_know_is_buried(moto_ses: list[Message]) -> None:
    """The code of a refusal as it comes over the wire, not as a stub spells it."""
    with pytest.raises(Bury, match=r"MessageRejected: .*\*\*\*@elsewhere.example"):
        send_email("ada@example.org", "Hello", text="Hi", sender="shop@elsewhere.example")
    assert moto_ses == []


def test_a_fault_of_ses_is_left_to_the_retries_of_relayq(moto_ses: list[Message]) -> None:
    """botocore's own retries would send a mail again within a second of an answer that was lost."""
    tries = 0

    def lose_the_answer(**_: Any) -> None:
        nonlocal tries
        tries += 1
        raise botocore.exceptions.ReadTimeoutError(endpoint_url="https://ses")

    jobs.email.build_ses_client().meta.events.register_first("before-send.sesv2.SendEmail", lose_the_answer)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        send_email("ada@example.org", "Hello", text="Hi")
    assert tries == 1


def test_the_client_is_made_once_and_never_waits_for_long(moto_ses: list[Message]) -> None:
    """botocore waits a minute for each, which a runner would be billed for."""
    client = jobs.email.build_ses_client()
    assert jobs.email.build_ses_client() is client
    config: Any = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (2, 10)


def test_importing_the_jobs_loads_no_boto3() -> None:
    """A process that only dispatches these jobs, and a runner that never sends a mail, should not pay for SES."""
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", "import sys, jobs.email; print('boto3' in sys.modules)"],
        env={"PYTHONPATH": os.pathsep.join(map(str, [repository, repository / "functions/runner"]))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"

"""Wrong uses of jobs as functions. Each line marked `# error` must be rejected, and no other."""
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssertTypeFailure=false, reportAssignmentType=false, reportOptionalMemberAccess=false
# pyright: reportIncompatibleMethodOverride=false

from typing import assert_type

from relayq_core import JobContext, dispatch, job


@job(queue="emails")
def send_email(to: str, subject: str = "Hi") -> int:
    return len(to + subject)


@job
def aware(context: JobContext, to: str) -> str:
    return to


@job(priority=5)  # error
def wrong_option() -> None: ...


@job(queue=5)  # error
def wrong_value() -> None: ...


@job("emails")  # error
def no_keyword() -> None: ...


send_email.job()  # error
send_email.job(5)  # error
send_email.job(to="a@b.c", copies=2)  # error
send_email.job("a@b.c", "Hi", "more")  # error
send_email.job(to="a@b.c", subject=None)  # error
send_email.jobs(to="a@b.c")  # error
send_email(5)  # error
assert_type(send_email("a@b.c"), str)  # error
aware.job(to=5)  # error
aware.job()  # error
aware("a@b.c")  # error
dispatch(send_email.job("a@b.c").with_options(queue=5))  # error

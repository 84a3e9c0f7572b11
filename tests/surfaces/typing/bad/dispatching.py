"""Wrong uses of dispatch and of what it answers. Each line marked `# error` must be rejected, and no other."""
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssertTypeFailure=false, reportAssignmentType=false, reportOptionalMemberAccess=false
# pyright: reportIncompatibleMethodOverride=false

from datetime import date

from relayq_core import Dispatched, Exponential, JobEvent, JobRecord, RelayQ, RetryAfter, Snooze, cancel, dispatch, get, on

dispatch()  # error
dispatch("send_email", {"to": "x"}, prority=5)  # error
dispatch("send_email", {"to": "x"}, "emails")  # error
dispatch("send_email", ["x"])  # error
dispatch("send_email", delay="5")  # error
dispatch("send_email", at=date(2026, 1, 1))  # error
dispatch("send_email", at="2026-01-01")  # error
dispatch("send_email", max_attempts=1.5)  # error
dispatch("send_email", backoff="10,30")  # error
dispatch("send_email", unique=7)  # error
done: JobRecord = dispatch("send_email")  # error
dispatch("send_email").id  # error
Dispatched("id").duplicate  # error
get("id").status  # error
get(5)  # error
cancel()  # error
Exponential("10")  # error
Exponential()  # error
Snooze("5")  # error
RetryAfter()  # error
RelayQ("jobs")  # error
RelayQ().failed(5)  # error


@on("failed")  # error
def takes_nothing() -> None: ...


@on  # error
def no_kind(event: JobEvent) -> None: ...

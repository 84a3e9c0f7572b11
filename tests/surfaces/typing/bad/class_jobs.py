"""Wrong uses of jobs as classes. Each line marked `# error` must be rejected, and no other.

Class keywords are missing here: no type checker looks at them where the class has a metaclass, as pydantic's models
do. They are refused where the class is defined: see tests/unit/test_jobs_as_classes.py.
"""
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssertTypeFailure=false, reportAssignmentType=false, reportOptionalMemberAccess=false
# pyright: reportIncompatibleMethodOverride=false

from relayq_core import Job, JobContext, dispatch


class SendEmail(Job, queue="emails"):
    to: str
    copies: int = 1

    def handle(self, context: JobContext) -> None: ...


class WrongFailed(Job):
    def handle(self) -> None: ...

    def failed(self) -> None: ...  # error


SendEmail()  # error
SendEmail(to=5)  # error
SendEmail(to="a@b.c", cc="x")  # error
SendEmail("a@b.c")  # error
SendEmail(to="a@b.c").with_options(priority=1)  # error
SendEmail(to="a@b.c").with_options(delay="5")  # error
SendEmail(to="a@b.c").reciever  # error
dispatch(SendEmail(to="a@b.c"), wait=5)  # error

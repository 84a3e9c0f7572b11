"""Job and @job: how a job is written, as a class or as a function. The only core modules that need pydantic."""

from relayq_core.class_jobs import Job
from relayq_core.function_jobs import ContextFunctionJob, FunctionJob, job

__all__ = ["ContextFunctionJob", "FunctionJob", "Job", "job"]

"""The functions as Lambda loads them, for the tests of all handlers."""

from tests.surfaces.handlers.lambdas import invocations, lambdas

__all__ = ["invocations", "lambdas"]

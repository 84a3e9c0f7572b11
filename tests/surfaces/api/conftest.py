"""The API function, for all tests of it; jobs that other tests define are not there."""

from tests.support.isolation import isolated
from tests.surfaces.api.calling import api, aws, load

__all__ = ["api", "aws", "isolated", "load"]

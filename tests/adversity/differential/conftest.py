"""The figures of the comparison are printed below the results."""

from __future__ import annotations

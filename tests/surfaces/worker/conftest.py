"""What tests of the worker share: what they count stands at the end of the run."""

from __future__ import annotations

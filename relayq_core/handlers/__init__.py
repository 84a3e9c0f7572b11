"""The Lambda handlers: the only core rooms with powertools."""

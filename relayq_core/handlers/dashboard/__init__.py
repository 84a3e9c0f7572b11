"""The dashboard over HTTP: its routes, who may use them, and what each shows or changes."""

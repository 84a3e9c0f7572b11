"""The dashboard: what its screens show, how they look, and who may see them. handlers/dashboard/ serves it."""

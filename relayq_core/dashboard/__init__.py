"""The dashboard: what its screens show, how they look, and who may see them. The routes are in handlers/dashboard.py."""

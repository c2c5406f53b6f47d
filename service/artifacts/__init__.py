"""Artifacts: list them, and activate another one while the service runs."""

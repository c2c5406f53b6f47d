"""Operators' changes of cells: each change becomes a version, or nothing changes."""

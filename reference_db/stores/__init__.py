"""Stores that keep the versions of cells: a directory or Redis."""

"""Searches a cell's fingerprints by position and by signal."""

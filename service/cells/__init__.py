"""Cells in service: loaded, calibrated, kept in memory and up to date with the store."""

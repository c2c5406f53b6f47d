"""Metrics, logs, correlation headers and traces."""

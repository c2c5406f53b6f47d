"""Locates users in measured Wi-Fi channels over real HTTP: ``python -m benchmarks.measured FILE``."""

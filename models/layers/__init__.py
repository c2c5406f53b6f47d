"""Layers and channel features that several model families use."""

"""Rivals of the model families: classical estimators, and a convolutional model."""

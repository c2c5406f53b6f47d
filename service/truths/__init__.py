"""Surveyed truths of located users: whether stated confidences hold, and which truths would pay as fingerprints."""

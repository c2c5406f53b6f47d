"""Tracks by analogy: several snapshots of one user, located together in any street that has fingerprints."""

"""Mateformer (ALLoc): locates a user by comparing CSI with a neighbourhood of fingerprints."""

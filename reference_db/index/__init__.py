"""How fingerprints are found: by position and by signal."""

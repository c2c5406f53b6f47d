"""A user's request: CSI and a coarse position in, an estimate out."""

"""SCADF-MoE: locates the points of a trajectory together."""

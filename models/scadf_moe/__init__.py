"""SCADF-MoE: locates the points of a short trajectory together."""

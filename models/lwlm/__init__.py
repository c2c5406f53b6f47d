"""LWLM: a transformer that learns from unlabelled CSI, and light decoders for range, angle and position."""

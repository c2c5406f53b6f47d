"""How fast Fingerpost answers, beside the same network served otherwise: ``python -m benchmarks.serving``."""

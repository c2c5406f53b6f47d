"""How fast Fingerpost answers, beside other ways to serve the same model: ``python -m benchmarks.serving``."""

"""HTTP in, coordinates out."""

import os

# ONNX Runtime writes down what it runs, and sends it to its makers, unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

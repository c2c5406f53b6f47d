"""Networks, the radio data they learn from, and the artifacts they become. `models.artifact` alone is torch-free."""

import os

# ONNX Runtime writes down what it runs, and sends it to its makers, unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

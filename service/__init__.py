"""HTTP in, coordinates out."""

import os

# ONNX Runtime reports its use to its maker unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

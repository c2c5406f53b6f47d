"""Trained models, the radio data that they learn from, and the artifacts that the service loads.

Only `models.artifact` and what it imports work without torch.
"""

import os

# ONNX Runtime logs what it runs and sends it to its makers, unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

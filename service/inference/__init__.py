"""All that runs ONNX graphs: sessions, frame cache, dispatcher, admission."""

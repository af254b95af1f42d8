"""Engines execute an artifact's model.onnx; each is an entry point of the group `zoo.engines`."""

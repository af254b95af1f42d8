"""ONNX files without the onnx package: reading, checking and rewriting them in place."""

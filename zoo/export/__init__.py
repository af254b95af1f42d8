"""From a torch network to one ONNX file that every engine runs."""

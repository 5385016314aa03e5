"""From an ONNX file to a Relax module: read, check, simplify, import, compare."""

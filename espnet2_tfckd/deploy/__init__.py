"""Using a trained student: the command line, streaming, ONNX files and the hub."""

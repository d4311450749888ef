"""Taking a student out of training: ONNX files, and enhancing audio from the command line."""

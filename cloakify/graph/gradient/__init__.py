"""Gradients of a classifier as an ONNX graph of their own."""

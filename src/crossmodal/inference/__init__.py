"""Inference with a trained run: its model without its data, search, and the ONNX export of its sentence encoder."""

"""A trained run at work: its model without its data, search, and its encoder of sentences as ONNX."""

"""ONNX's messages, generated from `onnx.proto` by `make proto`."""

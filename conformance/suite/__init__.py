"""Holds the answers of `inferring` against those of ONNX Runtime's own Python API."""

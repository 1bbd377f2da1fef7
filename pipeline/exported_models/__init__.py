"""Exported networks: folders with a program of ONNX or torch.export that runs without the network's code."""

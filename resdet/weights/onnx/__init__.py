"""Classifiers and backbones as ONNX files, each compared with its net."""

"""Detectors as ONNX files, compared with Detectron2's own results."""

"""`resdet export`, called as the command line calls it."""

from __future__ import annotations

import argparse

from resdet.cli import arguments, export_onnx


def export(*words: object) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    arguments.export(parser)
    return export_onnx.run_export(parser.parse_args([str(word) for word in words]))

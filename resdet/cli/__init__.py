"""The command line: one file per command; no other part of resdet parses arguments or prints.

main               the parser, one page per error, one exit code per kind
arguments          arguments of the commands that need torch, help pages; itself without torch
training_command   what train_det and pretrain_cls share
export_onnx        `convert_weights export`
"""

"""Bytes of a weight file to plain tensors; nothing in the file is executed."""

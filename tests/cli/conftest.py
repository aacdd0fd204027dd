"""Fixtures of the packages whose commands are tested here."""

from tests.evaluation.conftest import devkit, instances, perfect, voc_problem
from tests.submission.conftest import found, ledger_path, make_run, pets, submit, write

__all__ = [
    "devkit", "found", "instances", "ledger_path", "make_run", "perfect", "pets", "submit",
    "voc_problem", "write",
]  # fmt: skip

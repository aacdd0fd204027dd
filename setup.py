"""For `pip install -e .` and old tools alone; everything stands in pyproject.toml."""

from setuptools import setup

setup()

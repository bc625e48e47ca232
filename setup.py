"""Builds the C engine through cffi; all metadata is in pyproject.toml, which has no key for cffi_modules."""

from setuptools import setup

setup(cffi_modules=["tinyml/_build.py:ffibuilder"])

"""Builds the C engine through cffi; all metadata is in pyproject.toml, which has no keys for what stands here."""

import sysconfig

from setuptools import setup

# One wheel serves every CPython from 3.10 on; free-threaded builds have no stable ABI.
abi3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp310"}}

setup(cffi_modules=["tinyml/_build.py:ffibuilder"], options=abi3)

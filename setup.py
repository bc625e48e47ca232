"""Builds the C engine through cffi; all metadata is in pyproject.toml, which has no keys for what stands here."""

import os
import sysconfig
from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext

# One wheel serves every CPython from 3.10 on; free-threaded builds have no stable ABI.
abi3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp310"}}


class SideBySide(build_ext):
    """Compiles several files at once: the loops of an instruction set are one file, which takes half a minute."""

    def build_extensions(self):
        """Compiles and links."""
        compile_all = self.compiler.compile

        def compile_each(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_all([source], **options), sources)
                return [path for paths in objects for path in paths]

        self.compiler.compile = compile_each
        super().build_extensions()


setup(cffi_modules=["tinyml/_build.py:ffibuilder"], cmdclass={"build_ext": SideBySide}, options=abi3)

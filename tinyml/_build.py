"""Builds tinyml._engine, the cffi binding of csrc/: the declarations are csrc/tinyml.h without its preprocessor
lines."""

import os
import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent.parent / "csrc"

# For the project's own checks: "address,undefined" or "thread" builds with these sanitizers and without pools; with
# -O3 they would take minutes a file.
SANITIZE = os.environ.get("TINYML_SANITIZE", "")
# -fno-trapping-math lets the compiler turn conditions into selects; -ffast-math stays off: it would delete checks for
# NaN.
FLAGS = ["-std=gnu11", "-O1" if SANITIZE else "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
FLAGS += ["-fvisibility=hidden"]  # calls between our own files go straight, not through the linker's table
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g", "-DTM_POOLED=0"]
if os.environ.get("TINYML_WERROR"):
    FLAGS += ["-Werror"]

ffibuilder = FFI()
ffibuilder.cdef("\n".join(line for line in (CSRC / "tinyml.h").read_text().splitlines() if not line.startswith("#")))
# What C calls, defined in _core.py.
ffibuilder.cdef('extern "Python" int tm_python(int event, int64_t number, tm_ref node);')
ffibuilder.set_source(
    "tinyml._engine",
    '#include "tinyml.h"',
    sources=[f"csrc/{source.relative_to(CSRC)}" for source in sorted(CSRC.rglob("*.c"))],
    include_dirs=["csrc"],
    depends=[f"csrc/{header.relative_to(CSRC)}" for header in sorted(CSRC.rglob("*.h"))],
    extra_compile_args=FLAGS,
    extra_link_args=[f"-fsanitize={SANITIZE}"] if SANITIZE else [],
    libraries=["m", "pthread"],
    py_limited_api=not FREE_THREADED,
)

"""What the engine runs with: threads, instruction set, versions."""

from __future__ import annotations

import platform

from tinyml import _core


def set_num_threads(n: int) -> None:
    """How many threads large matrix products use. Raises ArgumentError below 1.

    The environment variable TINYML_NUM_THREADS sets it before the import. Results do not depend on it.
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """How many threads large matrix products use; at first, as many as there are processors for this process."""
    return _core.num_threads()


def show_config() -> None:
    """Prints what is in use: versions, instruction set, threads, compiler."""
    import numpy

    import tinyml

    rows = {
        "tinyml": tinyml.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        **_core.config(),
    }
    for name, value in rows.items():
        print(f"{name:16} {value}")

"""How long does `import tinyml` take? Beyond NumPy's own import, in fresh processes, against torch and jax.

The libraries take turns. Everybody who imports one of them has NumPy, so that comes first and is not counted; torch
would not need it.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

from _harness import INSTALL, Run, duration, main

PROBE = """
import time, numpy
start = time.{clock}()
import {module}
print(time.{clock}() - start)
"""


def seconds(module: str, clock: str) -> float:
    """The time of an import in a process of its own."""
    command = [sys.executable, "-c", PROBE.format(module=module, clock=clock)]
    here = Path(__file__).parent  # not where a folder `tinyml` of sources would be imported instead
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout)


def measure(run: Run) -> None:
    """Prints the table."""
    modules = ["tinyml"]
    for module in ("torch", "jax"):
        if importlib.util.find_spec(module):
            modules.append(module)
        else:
            print(f"{module}: not installed, skipped; {INSTALL}")
    run.header("import, beyond NumPy's own")
    clock = "process_time" if run.cpu_time else "perf_counter"
    samples: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(3 if run.quick else 15):
        for module, times in samples.items():
            times.append(seconds(module, clock))
    for module, times in samples.items():
        spread = f"{duration(min(times))} .. {duration(max(times))}"
        print(f"  {module:8} {duration(statistics.median(times)):>9}  ({spread})", flush=True)
    run.target("ms to import tinyml", statistics.median(samples["tinyml"]) * 1e3, 40)


if __name__ == "__main__":
    main(measure)

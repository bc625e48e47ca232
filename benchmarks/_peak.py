"""The processor's peak of multiply-adds, which matrix products are measured against."""

from __future__ import annotations

import threading
import time

import numpy as np
from _harness import compile_c

from tinyml import _core

PEAK = """
typedef REAL vector __attribute__((vector_size(BYTES)));
/* n rounds of 12 independent chains of multiply-adds; returns something that depends on all. */
double multiply_add(long n, double seed)
{
    vector a[12], x, y;
    for (unsigned lane = 0; lane < BYTES / sizeof(REAL); lane++) {
        x[lane] = (REAL)(1 - seed);
        y[lane] = (REAL)seed;
        for (int i = 0; i < 12; i++)
            a[i][lane] = (REAL)i;
    }
    for (long round = 0; round < n; round++)
        for (int i = 0; i < 12; i++)
            a[i] = a[i] * x + y;
    double sum = 0;
    for (int i = 0; i < 12; i++)
        for (unsigned lane = 0; lane < BYTES / sizeof(REAL); lane++)
            sum += (double)a[i][lane];
    return sum;
}
"""
ISA_FLAGS = {
    "base": (16, ()),
    "avx2": (32, ("-mavx2", "-mfma")),
    "avx512": (64, ("-mavx512f", "-mfma", "-mprefer-vector-width=512")),
    "neon": (16, ()),
}


def peak(dtype: str, threads: int) -> float | None:
    """Floating-point operations per second of multiply-adds in registers, on so many cores.

    For the instruction set that tinyml uses. None where there is no compiler.
    """
    size, isa_flags = ISA_FLAGS[str(_core.config()["instruction set"])]
    real = {"float32": "float", "float64": "double"}[dtype]
    flags = ("-O3", "-funroll-loops", "-ffp-contract=fast", "-shared", "-fPIC", *isa_flags)
    defines = (f"-DREAL={real}", f"-DBYTES={size}")
    library = compile_c("double multiply_add(long, double);", PEAK, (*flags, *defines))
    if library is None:
        return None
    rounds, best = 1_000_000, 0.0
    for _ in range(20):
        workers = [threading.Thread(target=library.multiply_add, args=(rounds, 1e-3)) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        work = threads * rounds * 12 * 2 * size / np.dtype(dtype).itemsize
        best = max(best, work / (time.perf_counter() - start))
    return best

"""What the benchmarks share: the setting, interleaved timing, tables.

Contestants take turns round by round (A B C A B C ...), so that a machine that slows down slows
all of them alike, in blocks so short that most of them run without an interruption. What is
compared are medians: of the times, and of the ratios within each round. Options of every script:

--quick         a few seconds in all, for a look or for continuous integration: rough numbers
--json FILE     also writes every row as a line of JSON
--threads N ..  the thread counts to measure, each in a process of its own
--cpu-time      compares processor time instead of time: for one thread, on a busy machine
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import cffi
import numpy as np

_INNER = "TINYML_BENCHMARK_THREADS"  # set in the processes that measure
INSTALL = "pip install '.[bench]'"
_ffi = cffi.FFI()


# -- what is compared ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Contestant:
    """One way to do the work; `run(n)` does it n times, `before` prepares a block untimed."""

    name: str
    run: Callable[[int], object]
    before: Callable[[], object] | None = None
    collector: bool = True  # Python's cyclic garbage collector, as everybody has it

    @classmethod
    def calling(cls, name: str, work: Callable[[], object], **options: Any) -> Contestant:
        """The contestant that calls a function."""

        def run(n: int) -> None:
            for _ in repeat(None, n):
                work()

        return cls(name, run, **options)

    @classmethod
    def statement(cls, name: str, code: str, names: dict[str, Any], **options: Any) -> Contestant:
        """The contestant that executes a statement in a bare loop; names are local to the loop."""
        setup = "; ".join(f"{n} = names[{n!r}]" for n in names) or "pass"
        timer = timeit.Timer(
            code,
            f"{setup}\nif collector: gc.enable()",
            globals={"names": names, "gc": gc, "collector": options.get("collector", True)},
        )
        return cls(name, timer.timeit, **options)


@dataclass(frozen=True)
class Row:
    """A contestant's result: seconds per unit of work, and as multiples of the first's."""

    case: str
    name: str
    median: float
    low: float  # quartiles
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cores: float  # processor time per wall time: how many cores were busy


def _block(contestant: Contestant, n: int) -> tuple[float, float]:
    """Wall and processor seconds of n times the work.

    A short block during which the system gave the core to somebody else is repeated after a pause.
    """
    for attempt in range(8):
        if attempt:
            time.sleep(0.004)
        if contestant.before:
            contestant.before()
        if n > 1:
            contestant.run(1)  # what the others pushed out of the caches comes back
        gc.collect()
        if not contestant.collector:
            gc.disable()
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        wall, busy = time.perf_counter(), time.process_time()
        contestant.run(n)
        times = time.perf_counter() - wall, time.process_time() - busy
        gc.enable()
        interrupted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches
        if not interrupted or times[0] > 0.01:
            break
    return times


def _repetitions(contestant: Contestant, seconds: float) -> int:
    """How often the work fits into a block of so many seconds; warms up on the way."""
    _block(contestant, 1)
    n = 1
    while (spent := min(_block(contestant, n)[0] for _ in range(2))) < seconds / 4:
        n *= 2
    return max(1, round(n * seconds / spent))


def _quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return median, low, high


# -- a run ---------------------------------------------------------------------------------------


@dataclass
class Run:
    """The process that measures at one thread count."""

    quick: bool
    threads: int
    json: Path | None
    cpu_time: bool = False
    setting: dict[str, str] = field(default_factory=dict)

    def peer(self, name: str, distribution: str = "") -> Any:
        """The module of that name, or None with a line that says how to install it."""
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name}: not installed, skipped; {INSTALL}")
            return None
        distribution = distribution or name
        self.setting[distribution] = importlib.metadata.version(distribution)
        return module

    def header(self, title: str) -> None:
        """Prints the question and the setting. Call it after the peers are loaded."""
        print(f"\n{title}")
        print("\n".join(f"  {name:12} {value}" for name, value in self.setting.items()), flush=True)

    def skip(self, name: str, reason: str) -> None:
        """Says why a contestant does not run."""
        print(f"  {name}: skipped, {reason}", flush=True)

    def compare(
        self,
        case: str,
        contestants: Sequence[Contestant],
        seconds: float = 10.0,
        block: float = 0.001,
        unit: float = 1.0,
    ) -> list[Row]:
        """Times the contestants in turn within a budget; ratios are against the first.

        block: the seconds a contestant works at a stretch. unit: how much one run(1) does.
        """
        if self.quick:
            seconds, block = min(seconds, 0.2), min(block, 0.02)
        gc.collect()
        gc.freeze()  # the collector need not look at the libraries again and again
        counts = [_repetitions(contestant, block) for contestant in contestants]
        samples: list[list[float]] = [[] for _ in contestants]
        busy: list[list[float]] = [[] for _ in contestants]
        end, fewest = time.perf_counter() + seconds, 3 if self.quick else 9
        while len(samples[0]) < fewest or (len(samples[0]) < 500 and time.perf_counter() < end):
            for i, (contestant, count) in enumerate(zip(contestants, counts, strict=True)):
                wall, cpu = _block(contestant, count)
                samples[i].append((cpu if self.cpu_time else wall) / count / unit)
                busy[i].append(cpu / wall)
        gc.unfreeze()
        rows = []
        for contestant, times, cores in zip(contestants, samples, busy, strict=True):
            ratios = [t / first for t, first in zip(times, samples[0], strict=True)]
            row = Row(
                case,
                contestant.name,
                *_quartiles(times),
                *_quartiles(ratios),
                statistics.median(cores),
            )
            rows.append(row)
        self._save(rows)
        return rows

    def _save(self, rows: Iterable[Row]) -> None:
        if self.json:
            with self.json.open("a") as file:
                for row in rows:
                    record = {"benchmark": Path(sys.argv[0]).stem, "threads": self.threads}
                    print(json.dumps(record | vars(row) | {"setting": self.setting}), file=file)

    def target(self, what: str, value: float | None, bound: float, at_most: bool = True) -> None:
        """Prints whether a measured number keeps its target; None: it could not be measured."""
        if value is None:
            print(f"  target: {what}: not measured")
            return
        met = value <= bound if at_most else value >= bound
        side = "at most" if at_most else "at least"
        print(f"  target: {what}: {value:.3g}, {side} {bound:g}: {'met' if met else 'MISSED'}")


# -- tables --------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A time in the unit that fits, to three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def seconds_of(rows: Sequence[Row], name: str) -> float | None:
    """A contestant's median; None where it did not take part."""
    return next((row.median for row in rows if row.name == name), None)


def times_as_long(rows: Sequence[Row], name: str, other: str) -> float | None:
    """A contestant's time in multiples of another's; None where one of them did not take part."""
    ratios = {row.name: row.ratio for row in rows}
    return ratios[name] / ratios[other] if name in ratios and other in ratios else None


def show(rows: Sequence[Row], title: str | None = None, note: Callable[[Row], str] = lambda row: "") -> None:
    """Prints one case: a line per contestant, with a note at its end."""
    print(f"\n{title or rows[0].case}")
    width = max(len(row.name) for row in rows)
    titles = f"{'median':>9}  {'quartiles':>19}  {'ratio':>7}  {'quartiles':>13}  cores"
    print(f"  {'':{width}}  {titles}")
    for row in rows:
        spread = f"{duration(row.low)} .. {duration(row.high)}"
        ratios = f"{row.ratio_low:.2f} .. {row.ratio_high:.2f}"
        print(
            f"  {row.name:{width}}  {duration(row.median):>9}  {spread:>19}  {row.ratio:>7.2f}"
            f"  {ratios:>13}  {row.cores:>5.1f}  {note(row)}".rstrip(),
            flush=True,
        )


class Grid:
    """A table with a line per case: the first contestant's time, the others' times and ratios."""

    def __init__(self, names: Sequence[str], case_width: int = 24, extra: str = "") -> None:
        self.names, self.case_width = names, case_width
        columns = f"{names[0] + ' (quartiles)':>30}"
        columns += "".join(f"  {name:>14} {'ratio':>6}" for name in names[1:])
        print(f"\n  {'':{case_width}}{columns}{extra and '  ' + extra}")

    def line(self, rows: Sequence[Row], case: str, extra: str = "") -> None:
        """Prints a case; a contestant that does not take part leaves a gap."""
        first, found = rows[0], {row.name: row for row in rows}
        spread = f"{duration(first.median)} ({duration(first.low)} .. {duration(first.high)})"
        text = f"  {case:{self.case_width}}{spread:>30}"
        for name in self.names[1:]:
            row = found.get(name)
            cells = (duration(row.median), f"{row.ratio:.2f}") if row else ("-", "-")
            text += f"  {cells[0]:>14} {cells[1]:>6}"
        print(text + (extra and "  " + extra), flush=True)


# -- baselines in C ------------------------------------------------------------------------------

_FLOOR_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


def compile_c(declarations: str, source: str, flags: Sequence[str] = _FLOOR_FLAGS) -> Any:
    """C compiled at run time for this very processor; None where there is no compiler."""
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "baseline.c"), Path(folder, "baseline.so")
        code.write_text(source)
        command = [os.environ.get("CC", "gcc"), *flags, "-o", str(library), str(code), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            print(f"C: skipped, no {command[0]}; install it or set CC")
            return None
        except subprocess.CalledProcessError as error:
            print(f"C: skipped, {command[0]} failed: {error.stderr.strip().splitlines()[-1]}")
            return None
        return ffi.dlopen(str(library))


def pointer(array: np.ndarray[Any, Any]) -> Any:
    """The memory of a contiguous array for a compiled baseline; the caller keeps it alive."""
    kind = {"float32": "float", "float64": "double", "int64": "int64_t"}[array.dtype.name]
    return _ffi.cast(f"{kind} *", array.ctypes.data)


# -- processes -----------------------------------------------------------------------------------


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _cores() -> int:
    """The processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _environment(threads: int) -> dict[str, str]:
    """Every library at its best honest setting, with so many threads."""
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    for name in ("TINYML", "OMP", "MKL", "OPENBLAS"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    environment["NPROC"] = str(threads)  # XLA's thread pool
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    environment["JAX_PLATFORMS"] = "cpu"
    environment[_INNER] = str(threads)
    return environment


def main(measure: Callable[[Run], None], threads: Sequence[int] = (1,)) -> None:
    """Runs `measure` once per thread count, each time in a process with a clean environment."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds in all; rough")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rows as JSON lines")
    parser.add_argument("--threads", type=int, nargs="+", default=list(threads), metavar="N")
    parser.add_argument("--cpu-time", action="store_true", help="compare processor time; for one thread")
    options = parser.parse_args()
    if options.cpu_time:
        options.threads = [1]
    if _INNER in os.environ:
        _measure(measure, Run(options.quick, int(os.environ[_INNER]), options.json, options.cpu_time))
        return
    if options.json:
        options.json.write_text("")
    counts = [n for n in options.threads if n <= _cores()]
    for n in sorted(set(options.threads) - set(counts)):
        print(f"{n} threads: skipped, this process may use {_cores()} processors")
    command = [sys.executable, *sys.argv]
    failed = [n for n in counts if subprocess.run(command, env=_environment(n)).returncode]
    sys.exit(f"failed at {failed} threads" if failed else 0)


def _measure(measure: Callable[[Run], None], run: Run) -> None:
    import tinyml
    from tinyml import _core

    run.setting.update(
        processor=f"{_processor()}, {_cores()} cores",
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        threads=str(run.threads),
        time="of the processor" if run.cpu_time else "of the clock",
        tinyml=", ".join([tinyml.__version__, *(str(v) for v in _core.config().values())]),
        numpy=np.__version__,
    )
    measure(run)

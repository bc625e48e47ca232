"""What does each pass over a recorded program gain? The programs of the other benchmarks, with passes on and off.

"alone" is how many times as fast a pass by itself makes the program that was recorded; "missing" is how many times as
fast the program with all passes is as one without this pass. 1.00 means it gains nothing. All variants repeat their
steps in one call and give the same losses, bit for bit, which is checked before the clock starts. The bytes are those
of the program's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import expression
import mnist
import moons
import numpy as np
import wide
import xor
from _harness import Contestant, Run, duration, main, times_as_long

import tinyml
from tinyml.program import PASSES, Compiled

CHECKED = 5


@dataclass(frozen=True)
class Work:
    """A program: `step` makes a new function to record, with parameters of its own."""

    name: str
    step: Callable[[], Callable[..., Any]]
    arguments: tuple[Any, ...] = ()


def works(run: Run) -> list[Work]:
    """The programs."""
    images, labels, _ = mnist.digits()

    def digits(batch: int) -> Work:
        def step() -> Callable[..., Any]:
            step, reset = mnist.tinyml_step(mnist.Task(images[:batch], labels[:batch], batch))
            reset()
            return step

        arguments = (tinyml.tensor(images[:batch]), tinyml.tensor(labels[:batch]))
        return Work(f"MNIST, batch {batch}", step, arguments)

    found = [
        Work("expression", lambda: tinyml.func.value_and_grad(expression.g, argnums=(0, 1)), expression.POINTS[0]),
        Work("XOR, Values", xor.values_step),
        Work("XOR, Tensors", xor.tensors_step),
        Work("moons, Values", moons.values_step),
        Work("moons, lanes", moons.lanes_step),
        Work("moons, Tensors", moons.tensors_step),
        digits(1),
        digits(64),
        Work("wide, batch 128", wide.tinyml_step, (tinyml.tensor(wide.X), tinyml.tensor(wide.Y))),
    ]
    return found[1::3] if run.quick else found


class Variant:
    """A program after some of the passes."""

    def __init__(self, name: str, work: Work, passes: Sequence[str]) -> None:
        self.name = name
        self.work = work
        self.compiled: Compiled = tinyml.compile(work.step(), passes=passes)
        result = self.repeat(CHECKED)
        self.losses = np.asarray(result[0] if isinstance(result, tuple) else result)

    def repeat(self, n: int) -> Any:
        """So many steps."""
        return self.compiled.repeat(n, *self.work.arguments)

    @property
    def bytes(self) -> int:
        """The memory of the program's arrays."""
        program = self.compiled.program
        assert program is not None
        return program.bytes


def variants(work: Work) -> list[Variant]:
    """All passes, none, each alone, and all but each."""
    found = [Variant("all", work, PASSES), Variant("none", work, ())]
    found += [Variant(f"alone {name}", work, (name,)) for name in PASSES]
    found += [Variant(f"missing {name}", work, [p for p in PASSES if p != name]) for name in PASSES]
    for variant in found:
        assert np.array_equal(variant.losses, found[0].losses), (work.name, variant.name, variant.losses)
    return found


def measure(run: Run) -> None:
    """Prints the table."""
    run.header("Passes over recorded programs: a step, repeated in one call")
    columns = "".join(f"{name:>16}" for name in PASSES)
    print(f"\n  {'':18}{'all':>9}  {'none':>9}  {'gain':>5}   {'bytes':>21} {columns}   (alone, missing)")
    for work in works(run):
        found = variants(work)
        contestants = [Contestant(variant.name, variant.repeat) for variant in found]
        rows = run.compare(work.name, contestants, seconds=5, block=0.003)
        cells = ""
        for name in PASSES:
            alone = times_as_long(rows, "none", f"alone {name}") or 0
            missing = times_as_long(rows, f"missing {name}", "all") or 0
            cells += f"{alone:>10.2f}, {missing:.2f}"
        gain = times_as_long(rows, "none", "all") or 0
        sizes = f"{found[1].bytes:,} > {found[0].bytes:,}"
        times = f"{duration(rows[0].median):>9}  {duration(rows[1].median):>9}  {gain:>5.2f}"
        print(f"  {work.name:18}{times}   {sizes:>21} {cells}", flush=True)


if __name__ == "__main__":
    main(measure)

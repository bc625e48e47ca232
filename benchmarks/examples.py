"""How long do the examples take? Each command of the README's table, from its start to its end."""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _harness import Run, duration, main

ROOT = Path(__file__).parent.parent
LONG = ("charlm", "lenet")  # not for a quick look


def seconds(command: str) -> float:
    """The time of a command, its import of tinyml included."""
    script, *arguments = shlex.split(command)
    start = time.perf_counter()
    command_line = [sys.executable, str(ROOT / script), *arguments]
    subprocess.run(command_line, capture_output=True, check=True, cwd=ROOT / "examples")  # no folder tinyml there
    return time.perf_counter() - start


def measure(run: Run) -> None:
    """Prints the table; always by the clock, as that is what somebody waits for."""
    commands = re.findall(r"^\| `python (examples/.*?)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    run.header("the examples")
    for command in commands:
        if run.quick and any(name in command for name in LONG):
            run.skip(command, "takes long")
            continue
        times = [seconds(command) for _ in range(1 if run.quick else 3)]
        print(
            f"  {duration(statistics.median(times)):>9}  ({duration(min(times))} .. {duration(max(times))})  {command}"
        )


if __name__ == "__main__":
    main(measure, threads=(2,))

"""The examples, run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script: str, *arguments: str) -> str:
    path = ROOT / "examples" / script
    if not path.exists():
        pytest.skip("the examples are not beside the tests")
    result = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize("arguments", [[], ["--epochs", "3000", "--eager"]])
def test_xor(arguments: list[str]) -> None:
    """Both ways of writing it: 17 parameters, and all four predictions within 0.05."""
    output = run("xor.py", *arguments)
    rows = re.findall(r"xor \d +(-?\d+) +(-?[\d.]+)", output)
    assert output.count("17 parameters") == 2
    assert output.count("us an epoch") == 2
    assert len(rows) == 8
    for target, prediction in rows:
        assert float(prediction) == pytest.approx(float(target), abs=0.05)


def test_mnist(tmp_path: Path) -> None:
    """Default settings pass 97.5 % on the test images."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    if os.environ.get("TINYML_SANITIZED"):
        pytest.skip("too slow with a sanitizer")
    output = run("mnist.py", "--plot", str(tmp_path / "mnist"))
    before = re.search(r"accuracy before training: train ([\d.]+)%, test ([\d.]+)%", output)
    after = re.search(r"accuracy after training: train ([\d.]+)%, test ([\d.]+)%", output)
    assert before is not None
    assert after is not None
    assert float(before[2]) < 40
    assert float(after[2]) >= 97.5
    assert float(after[1]) >= float(after[2])
    assert "most confused digits:" in output
    assert {path.name for path in tmp_path.iterdir()} == {"mnist-curves.png", "mnist-mistakes.png"}


def test_mnist_options(tmp_path: Path) -> None:
    if os.environ.get("TINYML_SANITIZED"):
        pytest.skip("too slow with a sanitizer")
    options = "--hidden 32 16 --epochs 1 --batch 128 --optimizer adam --lr 0.01 --seed 5 --threads 1"
    output = run("mnist.py", *options.split())
    assert "784-32-16-10" in output
    eager = run("mnist.py", *options.split(), "--eager")
    for pattern in (r"after training: .*", r"  a \d taken for a \d: .*"):
        assert re.findall(pattern, output)
        assert re.findall(pattern, output) == re.findall(pattern, eager)  # the same training, replayed
    after = re.search(r"after training: train ([\d.]+)%", output)
    assert after is not None
    assert float(after[1]) > 85

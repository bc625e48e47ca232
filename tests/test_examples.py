"""The examples, run as a reader would run them; those that take over a minute in full behind the marker `slow`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ["charlm", "circle", "microgpt", "mnist", "moons", "xor"]

sanitized = pytest.mark.skipif(bool(os.environ.get("TINYML_SANITIZED")), reason="too slow with a sanitizer")


def path_of(script: str) -> Path:
    path = ROOT / "examples" / f"{script}.py"
    if not path.exists():
        pytest.skip("the examples are not beside the tests")
    return path


def run(script: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(path_of(script)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "FrozenWarning" not in result.stderr
    return result.stdout


def number(pattern: str, output: str) -> float:
    """The number in the only match."""
    found = re.findall(pattern, output)
    assert len(found) == 1, f"{len(found)} matches of {pattern!r} in:\n{output[-3000:]}"
    return float(found[0].replace(",", ""))


def test_all_are_here() -> None:
    path_of("xor")
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.py")) == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_is_short_and_explains_itself(script: str) -> None:
    assert len(path_of(script).read_text().splitlines()) < 200
    output = run(script, "--help")
    assert f"python examples/{script}.py" in output
    for option in ("--seed", "--plot", "--eager"):
        assert option in output


@sanitized
@pytest.mark.parametrize(
    ("script", "arguments", "sign"),
    [
        ("xor", ["--epochs", "1000000000"], "epoch  10,000 "),
        ("moons", ["--steps", "100000000"], "step 100 "),
        ("circle", ["--epochs", "100000000"], "   20 |"),
        ("microgpt", ["--steps", "10000000", "--embedding", "4"], "   1  "),
        ("charlm", ["--steps", "10000000", "--model", "lstm", "--length", "5"], "parameters"),
    ],
)
def test_ctrl_c(script: str, arguments: list[str], sign: str) -> None:
    """Ctrl-C ends the training, and what was done so far is reported."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(path_of(script)), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which is off in background jobs
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if sign in line:
            break
    time.sleep(0.5)
    try:
        for patience in (20, 120):
            process.send_signal(signal.SIGINT)
            try:
                rest, errors = process.communicate(timeout=patience)
                break
            except subprocess.TimeoutExpired:
                continue  # Python drops what falls on the entry of __del__: as people do, press again
        else:
            raise AssertionError("Ctrl-C did not end it")
    finally:
        process.kill()
    assert process.returncode == 0, errors[-2000:]
    assert "stopped after" in rest, "".join(lines)[-1000:] + rest[-1000:]


def test_xor(tmp_path: Path) -> None:
    """The protocol: the total loss every 500 epochs and last of all, and four predictions within 0.01."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    output = run("xor", "--plot", str(tmp_path / "xor"))
    assert "17 parameters, 300,000 epochs" in output
    epochs = re.findall(r"^epoch +([\d,]+)  total loss [\d.]+$", output, re.MULTILINE)
    assert epochs == [f"{epoch:,}" for epoch in range(500, 300_001, 500)]
    check_predictions(output, 1, 0.01)
    assert {path.name for path in tmp_path.iterdir()} == {"xor-loss.png", "xor-boundary.png"}


@pytest.mark.parametrize("options", [[], ["--eager"]])
def test_xor_over_tensors(options: list[str]) -> None:
    """The same network from the same weights, until rounding is magnified; the last epoch is reported, too."""
    output = run("xor", "--epochs", "3100", "--every", "1000", "--tensors", *options)
    assert re.findall(r"^epoch +([\d,]+)", output, re.MULTILINE) == ["1,000", "2,000", "3,000", "3,100"] * 2
    assert output.count("17 parameters") == 2
    check_predictions(output, 2, 0.05)
    assert number(r"the same within 1e-9 for ([\d,]+) epochs", output) >= 100


def check_predictions(output: str, tables: int, within: float) -> None:
    rows = re.findall(r"(\d) xor (\d) +(-?\d+) +(-?[\d.]+)", output)
    assert [(int(a) ^ int(b)) for a, b, _, _ in rows] == [0, 1, 1, 0] * tables
    for a, b, target, prediction in rows:
        assert int(target) == int(a) ^ int(b)
        assert float(prediction) == pytest.approx(float(target), abs=within)


@pytest.mark.parametrize("options", [[], ["--seed", "7"], ["--eager"]])
def test_moons(options: list[str]) -> None:
    """At least 99 % after 100 steps."""
    output = run("moons", *options)
    assert "100 points, 337 parameters" in output
    steps = re.findall(r"^step +(\d+)  loss ([\d.]+)  accuracy +([\d.]+)%$", output, re.MULTILINE)
    assert [int(step) for step, _, _ in steps] == list(range(100))
    assert float(steps[0][2]) < 99
    assert number(r"accuracy at the end: ([\d.]+)%", output) >= 99
    assert "of 100 on the wrong side" in output


@pytest.mark.parametrize("seed", [42, 0, 1, 2, 3])
def test_circle(seed: int) -> None:
    """At least 95 % after 100 epochs, whatever the seed."""
    output = run("circle", "--seed", str(seed))
    assert "100 points, " in output
    assert "337 parameters" in output
    assert 50 <= number(r"the larger class has ([\d.]+)%", output) < 65
    assert "Epoch |   loss | accuracy" in output
    epochs = re.findall(r"^ +(\d+) \| [\d.]+ \| +[\d.]+%$", output, re.MULTILINE)
    assert [int(epoch) for epoch in epochs] == [1, *range(10, 101, 10)]
    assert "100 epochs; last " in output  # below the curve
    assert number(r"accuracy at the end: ([\d.]+)%", output) >= 95


@pytest.mark.parametrize("script", ["moons", "circle"])
def test_plots_of_the_plane(script: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run(script, "--plot", str(tmp_path / script))
    assert {path.name for path in tmp_path.iterdir()} == {f"{script}-loss.png", f"{script}-boundary.png"}


@pytest.mark.parametrize("script", ["moons", "circle"])
def test_eager_is_the_same(script: str) -> None:
    outputs = [re.sub(r"[\d.]+ s\n", "", run(script, *options)) for options in ([], ["--eager"])]
    assert outputs[0] == outputs[1]


def accuracy(output: str, when: str, part: str = "test") -> float:
    """In percent, as counted: it must be what the line above the counts says."""
    lines = output[output.index(f"accuracy {when}: ") :].splitlines()[:3]
    correct, incorrect = (
        int(found.replace(",", "")) for found in re.findall(part + r" +([\d,]+) c.* ([\d,]+) i", "\n".join(lines))[0]
    )
    share = 100 * correct / (correct + incorrect)
    assert f"{part} {share:.2f}%" in lines[0]
    return share


@sanitized
def test_mnist(tmp_path: Path) -> None:
    """Default settings pass 97.5 % on the test images."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    output = run("mnist", "--plot", str(tmp_path / "mnist"))
    assert "784-128-10: 101,770 parameters" in output
    assert accuracy(output, "before training") < 40
    assert accuracy(output, "after training") >= 97.5
    assert accuracy(output, "after training", "train") >= accuracy(output, "after training")
    assert "most confused digits:" in output
    assert {path.name for path in tmp_path.iterdir()} == {"mnist-curves.png", "mnist-mistakes.png"}


@sanitized
def test_mnist_options() -> None:
    options = "--hidden 32 16 --epochs 1 --batch 128 --optimizer adam --lr 0.01 --seed 5 --threads 1 --clip 0.1"
    output = run("mnist", *options.split())
    assert "784-32-16-10" in output
    eager = run("mnist", *options.split(), "--eager")
    for pattern in (r"after training: .*", r"  a \d taken for a \d: .*"):
        assert re.findall(pattern, output)
        assert re.findall(pattern, output) == re.findall(pattern, eager)  # the same training, replayed
    assert accuracy(output, "after training", "train") > 85


@sanitized
def test_mnist_leaky() -> None:
    """The preset passes 94.4 % on the test images, from a loss near ln 10."""
    output = run("mnist", "--preset", "leaky")
    assert "784-256-64-10: 217,728 parameters" in output
    assert "History: 10 epochs, 6,000 steps" in output
    losses = re.findall(r"(?:train|test) +[\d,]+ correct, +[\d,]+ incorrect, loss ([\d.]+)", output)
    assert len(losses) == 4
    assert float(losses[0]) == pytest.approx(2.303, abs=0.02)
    assert float(losses[1]) == pytest.approx(2.303, abs=0.02)
    assert accuracy(output, "after training") > 94.4


@sanitized
def test_mnist_lenet_shortened() -> None:
    """The convolutional network after an epoch; a digit of the test set, and ten probabilities."""
    output = run("mnist", "--model", "lenet", "--epochs", "1", "--show", "7")
    assert "LeNet-5: 61,706 parameters" in output
    assert accuracy(output, "after training") > 97
    shown = output[output.index("test image 7, a 9:") :]
    assert "█" in shown
    shares = [float(share) for share in re.findall(r"^  \d +([\d.]+)%", shown, re.MULTILINE)]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=0.01)
    assert shares.index(max(shares)) == 9


@pytest.mark.slow
@sanitized
def test_mnist_lenet() -> None:
    """Past 98.9 %."""
    assert accuracy(run("mnist", "--model", "lenet"), "after training") > 98.9


def check_charlm(output: str, models: list[str], below: float) -> None:
    """Each model is better than counting pairs, and than `below`, on text that it has not seen."""
    uniform, single, pairs = (
        number(rf"{name} +([\d.]+) nats", output)
        for name in ("as likely", "characters by frequency", "pairs by frequency")
    )
    assert uniform > single > pairs
    assert re.findall(r"^(\w+): [\d,]+ parameters", output, re.MULTILINE) == models
    losses = [float(loss) for loss in re.findall(r"on the last tenth +([\d.]+) nats", output)]
    assert len(losses) == len(models)
    assert max(losses) < min(pairs, below)
    assert output.count("in nats per character\n") == len(models)  # the curves


@sanitized
def test_charlm_shortened() -> None:
    check_charlm(run("charlm", "--steps", "200", "--length", "50"), ["lstm", "transformer"], 2.3)


@pytest.mark.slow
@sanitized
def test_charlm() -> None:
    check_charlm(run("charlm"), ["lstm", "transformer"], 1.7)


@sanitized
@pytest.mark.parametrize("options", [["--steps", "200"], ["--steps", "10", "--batch", "8", "--eager"]])
def test_microgpt(options: list[str]) -> None:
    """The losses over Values and over Tensors are the same, and fall."""
    output = run("microgpt", *options)
    rows = re.findall(r"^ *(\d+)  ([\d.]+)  ([\d.]+)$", output, re.MULTILINE)
    assert [int(rows[0][0]), int(rows[-1][0])] == [1, int(options[1])]
    assert float(rows[0][1]) == pytest.approx(3.3, abs=0.15)  # ln 27
    assert float(rows[-1][1]) < (2.6 if len(options) == 2 else 3.1)
    for _, over_values, over_tensors in rows:
        assert float(over_values) == pytest.approx(float(over_tensors), abs=1e-9)
    assert number(r"differ by at most ([\d.e+-]+): below", output) < 1e-9
    assert len(re.findall(r"\w+", output.split("new words:")[1])) >= 25


@pytest.mark.slow
@sanitized
def test_microgpt_in_full() -> None:
    output = run("microgpt")
    assert number(r"^1000  ([\d.]+)  ", re.sub(r"(?s).*\n(?=1000  )", "", output)) < 2.2
    assert number(r"differ by at most ([\d.e+-]+): below", output) < 1e-9

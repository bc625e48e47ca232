"""Trains a fully connected network on the 60,000 handwritten digits of MNIST and tests it on 10,000 others.

python examples/mnist.py [--hidden 128] [--epochs 5] [--batch 64] [--plot mnist] [--eager]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinyml
from tinyml import nn, optim
from tinyml.data import DataLoader, TensorDataset
from tinyml.train import History, accuracy, evaluate, fit

OPTIMIZERS: dict[str, Callable[[Any, float], optim.Optimizer]] = {
    "sgd": lambda parameters, lr: optim.SGD(parameters, lr=lr, momentum=0.9),
    "adam": lambda parameters, lr: optim.Adam(parameters, lr=lr),
    "adamw": lambda parameters, lr: optim.AdamW(parameters, lr=lr),
}
LEARNING_RATES = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3}


def network(hidden: list[int]) -> nn.Sequential:
    """784 pixels, hidden layers with ReLU, 10 logits."""
    sizes = [784, *hidden, 10]
    layers: list[nn.Module] = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def predictions(model: nn.Module, test: TensorDataset) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The digit the model sees in each test image, and the right one."""
    with tinyml.no_grad():
        seen = [model(images).argmax(1).numpy() for images, _ in DataLoader(test, batch_size=1000)]
    return np.concatenate(seen), test.arrays[1].astype(np.int64)


def report_time(model: nn.Module, train: TensorDataset, batch: int, seconds: float) -> None:
    """How the time of a training step divides into arithmetic and everything else, by profiling such a step."""
    optimizer = optim.SGD(model.parameters(), lr=0.0)  # does the work of a step, and moves nothing

    def step(images: tinyml.Tensor, labels: tinyml.Tensor) -> None:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    times = tinyml.compile(step).profile(*(array[:batch] for array in train.arrays), replays=100)
    arithmetic = sum(time.seconds for time in times)
    products = sum(time.seconds for time in times if "linear" in time.step)
    shares = [products / seconds, (arithmetic - products) / seconds, max(0.0, 1 - arithmetic / seconds)]
    parts = zip(shares, ("matrix products", "other arithmetic", "everything else"), strict=True)
    print(f"a step takes {1e6 * seconds:,.0f} us: " + ", ".join(f"{share:.0%} {part}" for share, part in parts))


def report_confusions(seen: np.ndarray[Any, Any], right: np.ndarray[Any, Any], most: int = 5) -> None:
    """The pairs of digits mixed up most often."""
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (right, seen), 1)
    np.fill_diagonal(counts, 0)
    print("most confused digits:")
    for pair in np.argsort(counts, axis=None)[::-1][:most]:
        digit, taken_for = divmod(int(pair), 10)
        print(f"  a {digit} taken for a {taken_for}: {counts[digit, taken_for]} times")


def save_plots(prefix: str, history: History, test: TensorDataset, seen: Any, right: Any) -> None:
    """Curves of loss and accuracy, and a sheet of mistaken digits, as PREFIX-*.png."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise SystemExit("--plot needs matplotlib: pip install 'tinyml-engine[plot]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    window = max(1, len(history.losses) // 200)
    smooth = np.convolve(history.losses, np.ones(window) / window, "valid")
    left.plot(np.arange(len(smooth)) + window, smooth)
    left.set(xlabel="step", ylabel=f"loss (mean of {window} steps)", yscale="log")
    epochs = range(1, len(history) + 1)
    middle.plot(epochs, [100 * epoch.metric for epoch in history], "o-", label="train, during the epoch")
    middle.plot(epochs, [100 * epoch.validation_metric for epoch in history], "o-", label="test")
    middle.set(xlabel="epoch", ylabel="accuracy in %")
    middle.legend()
    figure.savefig(f"{prefix}-curves.png", dpi=120)

    mistaken = np.flatnonzero(seen != right)[:50]
    figure, axes = plt.subplots(5, 10, figsize=(10, 6), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, mistaken, strict=False):
        axis.imshow(test.arrays[0][i].reshape(28, 28), cmap="gray_r")
        axis.set_title(f"{right[i]} seen as {seen[i]}", fontsize=8)
    figure.savefig(f"{prefix}-mistakes.png", dpi=120)
    print(f"saved {prefix}-curves.png and {prefix}-mistakes.png")


def main() -> None:
    """Parses the command line, trains, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="*", default=[128], help="sizes of the hidden layers")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="sgd", help="sgd has momentum 0.9")
    parser.add_argument("--lr", type=float, help="learning rate (default: 0.1, for adam and adamw 0.002)")
    parser.add_argument("--decay", type=float, default=0.5, help="factor on the learning rate after each epoch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads for matrix products (default: all)")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parent / "data" / "mnist",
        help="folder of the files",
    )
    parser.add_argument(
        "--plot",
        metavar="PREFIX",
        help="save pictures as PREFIX-curves.png and PREFIX-mistakes.png",
    )
    arguments = parser.parse_args()

    tinyml.manual_seed(arguments.seed)
    if arguments.threads:
        tinyml.set_num_threads(arguments.threads)
    train, test = tinyml.data.mnist(arguments.data, flatten=True)
    model = network(arguments.hidden)
    lr = arguments.lr or LEARNING_RATES[arguments.optimizer]
    optimizer = OPTIMIZERS[arguments.optimizer](model.parameters(), lr)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{'-'.join(map(str, [784, *arguments.hidden, 10]))}: {parameters:,} parameters")

    def show_accuracy(when: str) -> None:
        shares = [evaluate(model, DataLoader(part, batch_size=1000)).metric for part in (train, test)]
        print(f"accuracy {when}: train {shares[0]:.2%}, test {shares[1]:.2%}")

    def decay(_: History) -> None:
        optimizer.param_groups[0]["lr"] *= arguments.decay

    show_accuracy("before training")
    history = fit(
        model,
        DataLoader(train, batch_size=arguments.batch, shuffle=True),
        nn.CrossEntropyLoss(),
        optimizer,
        epochs=arguments.epochs,
        validation=DataLoader(test, batch_size=1000),
        metric=accuracy,
        unit="images",
        callback=decay,
        compiled=not arguments.eager,
    )
    print(history)
    if history.losses and not history.interrupted:
        report_time(model, train, arguments.batch, sum(epoch.seconds for epoch in history) / len(history.losses))
    show_accuracy("after training")
    seen, right = predictions(model, test)
    report_confusions(seen, right)
    if arguments.plot:
        save_plots(arguments.plot, history, test, seen, right)


if __name__ == "__main__":
    main()

"""Trains a network on the 60,000 handwritten digits of MNIST and tests it on 10,000 others.

python examples/mnist.py [--hidden 128] [--epochs 5] [--batch 64] [--plot mnist] [--eager]
python examples/mnist.py --model lenet [--show 7]    a convolutional network
python examples/mnist.py --preset leaky              784-256-64-10, leaky ReLU, no biases, clipped gradients, plain SGD

A preset and --model lenet only change the defaults of the other options.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinyml
from tinyml import nn, optim, viz
from tinyml.data import DataLoader, TensorDataset
from tinyml.nn import functional as F
from tinyml.train import History, accuracy, evaluate, fit

OPTIMIZERS: dict[str, Callable[[Any, float, float], optim.Optimizer]] = {
    "sgd": lambda parameters, lr, momentum: optim.SGD(parameters, lr=lr, momentum=momentum),
    "adam": lambda parameters, lr, _: optim.Adam(parameters, lr=lr),
    "adamw": lambda parameters, lr, _: optim.AdamW(parameters, lr=lr),
}
LEARNING_RATES = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3}
# Weights start uniform within 1 / sqrt(inputs), as everywhere: without biases the first loss is close to ln 10.
LEAKY = {"hidden": [256, 64], "leaky": True, "no_bias": True, "batch": 100, "lr": 0.03, "momentum": 0.0}
DEFAULTS: dict[str | None, dict[str, Any]] = {
    "leaky": {**LEAKY, "clip": 1.0, "decay": 1.0, "epochs": 10},
    "lenet": {"lr": 0.05, "epochs": 8, "decay": 0.6},
}


def fully_connected(hidden: list[int], leaky: bool, bias: bool) -> nn.Sequential:
    """784 pixels, hidden layers with ReLU or leaky ReLU, 10 logits."""
    sizes = [784, *hidden, 10]
    layers: list[nn.Module] = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1], bias=bias), nn.LeakyReLU() if leaky else nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def lenet() -> nn.Sequential:
    """Two convolutions, each with the maxima of 2 x 2 pixels, then three layers. http://yann.lecun.com/exdb/lenet"""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),  # 6 x 14 x 14
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),  # 16 x 5 x 5
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def predictions(model: nn.Module, test: TensorDataset) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The digit the model sees in each test image, and the right one."""
    with tinyml.no_grad():
        seen = [model(images).argmax(1).numpy() for images, _ in DataLoader(test, batch_size=1000)]
    return np.concatenate(seen), test.arrays[1].astype(np.int64)


def report_accuracy(model: nn.Module, train: TensorDataset, test: TensorDataset, when: str) -> None:
    """How many images are seen rightly, and the mean loss."""
    found = {
        name: (part, evaluate(model, DataLoader(part, batch_size=1000), F.cross_entropy))
        for name, part in (("train", train), ("test", test))
    }
    print(f"accuracy {when}: " + ", ".join(f"{name} {means.metric:.2%}" for name, (_, means) in found.items()))
    for name, (part, means) in found.items():
        correct = round(means.metric * len(part))
        print(f"  {name:5} {correct:6,} correct, {len(part) - correct:6,} incorrect, loss {means.loss:.4f}")


def report_time(model: nn.Module, train: TensorDataset, batch: int, seconds: float) -> None:
    """How the time of a training step divides into arithmetic and everything else, by profiling such a step."""
    optimizer = optim.SGD(model.parameters(), lr=0.0)  # does the work of a step, and moves nothing

    def step(images: tinyml.Tensor, labels: tinyml.Tensor) -> None:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    times = tinyml.compile(step).profile(*(array[:batch] for array in train.arrays), replays=100)
    arithmetic = sum(time.seconds for time in times)
    products = sum(time.seconds for time in times if "linear" in time.step or "conv" in time.step)
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


def show_digit(model: nn.Module, test: TensorDataset, i: int) -> None:
    """A test image as text, and what the model takes it for."""
    image, label = test[i]
    print(f"test image {i}, a {int(label)}:\n{viz.text_digit(image)}")
    with tinyml.no_grad():
        probabilities = F.softmax(model(image.reshape(1, 1, 28, 28)), 1).flatten().tolist()
    for digit, probability in enumerate(probabilities):
        print(f"  {digit} {probability:8.3%} {'#' * round(50 * probability)}".rstrip())


def save_plots(prefix: str, history: History, test: TensorDataset, seen: Any, right: Any) -> None:
    """Curves of loss and accuracy, and a sheet of mistaken digits, as PREFIX-*.png."""
    viz.plot_history(history, f"{prefix}-curves.png")
    mistaken = np.flatnonzero(seen != right)[:50]
    titles = [f"{right[i]} seen as {seen[i]}" for i in mistaken]
    viz.plot_digits(test.arrays[0][mistaken], titles, f"{prefix}-mistakes.png")
    print(f"saved {prefix}-curves.png and {prefix}-mistakes.png")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["mlp", "lenet"], default="mlp", help="mlp is fully connected")
    parser.add_argument("--preset", choices=["leaky"], help="another setting of the fully connected network")
    parser.add_argument("--hidden", type=int, nargs="*", default=[128], help="sizes of the hidden layers")
    parser.add_argument("--leaky", action="store_true", help="leaky ReLU in place of ReLU")
    parser.add_argument("--no-bias", action="store_true", help="layers without biases")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="sgd")
    parser.add_argument("--lr", type=float, help="learning rate (default: 0.1, for adam and adamw 0.002)")
    parser.add_argument("--momentum", type=float, default=0.9, help="of sgd")
    parser.add_argument("--decay", type=float, default=0.5, help="factor on the learning rate after each epoch")
    parser.add_argument("--clip", type=float, help="largest magnitude of an element of a gradient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads for matrix products (default: all)")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    parser.add_argument("--show", type=int, metavar="I", help="show test image I and what the network takes it for")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parent / "data" / "mnist", help="folder of the files"
    )
    parser.add_argument("--plot", metavar="PREFIX", help="save pictures as PREFIX-curves.png and PREFIX-mistakes.png")
    arguments = parser.parse_args()
    parser.set_defaults(**DEFAULTS.get(arguments.model, {}) | DEFAULTS.get(arguments.preset, {}))
    return parser.parse_args()


def main() -> None:
    """Trains, and reports."""
    arguments = parse()
    tinyml.manual_seed(arguments.seed)
    if arguments.threads:
        tinyml.set_num_threads(arguments.threads)
    train, test = tinyml.data.mnist(arguments.data)
    if arguments.model == "lenet":
        model, name = lenet(), "LeNet-5"
    else:
        model = fully_connected(arguments.hidden, arguments.leaky, not arguments.no_bias)
        name = "-".join(map(str, [784, *arguments.hidden, 10]))
    lr = arguments.lr or LEARNING_RATES[arguments.optimizer]
    optimizer = OPTIMIZERS[arguments.optimizer](model.parameters(), lr, arguments.momentum)
    print(f"{name}: {model.num_parameters():,} parameters")

    def clip() -> None:
        nn.utils.clip_grad_value_(model.parameters(), arguments.clip)

    report_accuracy(model, train, test, "before training")
    history = fit(
        model,
        DataLoader(train, batch_size=arguments.batch, shuffle=True),
        nn.CrossEntropyLoss(),
        optimizer,
        epochs=arguments.epochs,
        validation=DataLoader(test, batch_size=1000),
        metric=accuracy,
        unit="images",
        scheduler=optim.lr_scheduler.ExponentialLR(optimizer, arguments.decay),
        before_step=clip if arguments.clip else None,
        compiled=not arguments.eager,
    )
    print(history)
    if history.losses and not history.interrupted:
        report_time(model, train, arguments.batch, sum(epoch.seconds for epoch in history) / len(history.losses))
    report_accuracy(model, train, test, "after training")
    seen, right = predictions(model, test)
    report_confusions(seen, right)
    if arguments.show is not None:
        show_digit(model, test, arguments.show)
    if arguments.plot:
        save_plots(arguments.plot, history, test, seen, right)


if __name__ == "__main__":
    main()

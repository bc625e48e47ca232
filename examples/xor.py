"""Learns XOR with a 2-4-1 tanh network twice: as a graph of scalar Values, and with Tensors.

python examples/xor.py [--epochs 2000] [--lr 0.1] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import tinyml
from tinyml import Tensor, Value, nn, optim

Predict = Callable[[], list[float]]


def train_values(inputs: Tensor, targets: Tensor, epochs: int, lr: float) -> Predict:
    """Every product and sum of every sample is a node: the graph people learn on."""
    model = nn.MLP(2, [4, 1], activation="tanh", output="tanh")
    optimizer = optim.SGD(model.parameters(), lr=lr)
    samples = [([Value(x) for x in row], Value(t)) for row, (t,) in zip(inputs.tolist(), targets.tolist(), strict=True)]

    def step() -> float:
        errors = [model(x) - t for x, t in samples]
        loss = tinyml.sum([error * error for error in errors])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.data)

    run("Values", model, step, epochs)
    return lambda: [model(x).data for x, _ in samples]


def train_tensors(inputs: Tensor, targets: Tensor, epochs: int, lr: float) -> Predict:
    """The same network, the four samples as one array."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh())
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)
    optimizer = optim.SGD(model.parameters(), lr=lr)

    def step() -> float:
        loss = nn.functional.mse_loss(model(inputs), targets, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    run("Tensors", model, step, epochs)
    return lambda: [row[0] for row in model(inputs).tolist()]


def run(name: str, model: nn.Module, step: Callable[[], float], epochs: int) -> None:
    """Trains, saying how the loss falls and how fast it goes. Ctrl-C ends it early."""
    parameters = sum(1 if isinstance(p, Value) else p.numel() for p in model.parameters())
    print(f"\nXOR with {name}: {parameters} parameters")
    start = time.perf_counter()
    epoch = 0
    try:
        for epoch in range(1, epochs + 1):
            loss = step()
            if epoch == 1 or epoch % max(1, epochs // 10) == 0:
                print(f"  epoch {epoch:6d}  loss {loss:.6f}")
    except KeyboardInterrupt:
        print(f"  stopped in epoch {epoch}")
    print(f"  {epoch / (time.perf_counter() - start):,.0f} epochs per second")


def report(inputs: Tensor, targets: Tensor, predict: Predict) -> None:
    """Predictions next to the targets."""
    print("  input      target  prediction")
    for row, (target,), prediction in zip(inputs.tolist(), targets.tolist(), predict(), strict=True):
        print(f"  {row[0]:.0f} xor {row[1]:.0f}  {target:6.0f}  {prediction:10.4f}")


def main() -> None:
    """Parses the command line and trains both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    inputs, targets = tinyml.data.xor()
    for train in (train_values, train_tensors):
        tinyml.manual_seed(arguments.seed)
        report(inputs, targets, train(inputs, targets, arguments.epochs, arguments.lr))


if __name__ == "__main__":
    main()

"""Learns XOR with a 2-4-1 tanh network twice: as a graph of scalar Values, and with Tensors.

python examples/xor.py [--epochs 300000] [--lr 0.1] [--seed 1] [--eager]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import tinyml
from tinyml import Tensor, Value, nn, optim

Step = Callable[[], Value | Tensor]
Predict = Callable[[], list[float]]


def with_values(inputs: Tensor, targets: Tensor, lr: float) -> tuple[nn.Module, Step, Predict]:
    """Every neuron of every sample is a node: the graph people learn on."""
    model = nn.MLP(2, [4, 1], activation="tanh", output="tanh")
    optimizer = optim.SGD(model.parameters(), lr=lr)
    samples = [([Value(x) for x in row], Value(t)) for row, (t,) in zip(inputs.tolist(), targets.tolist(), strict=True)]

    def step() -> Value:
        errors = [model(x) - t for x, t in samples]
        loss: Value = tinyml.sum([error * error for error in errors])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step, lambda: [model(x).data for x, _ in samples]


def with_tensors(inputs: Tensor, targets: Tensor, lr: float) -> tuple[nn.Module, Step, Predict]:
    """The same network, the four samples as one array."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh())
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)
    optimizer = optim.SGD(model.parameters(), lr=lr)

    def step() -> Tensor:
        loss = nn.functional.mse_loss(model(inputs), targets, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step, lambda: [row[0] for row in model(inputs).tolist()]


def train(step: Step, epochs: int, eager: bool) -> None:
    """Takes the steps, saying how the loss falls and how long it takes. Ctrl-C ends it early."""
    compiled = tinyml.compile(step)
    done, start = 0, time.perf_counter()
    reports = sorted({1, *(epochs * tenth // 10 for tenth in range(1, 11))} - {0})
    try:
        for report in reports:
            if eager:
                while done < report:
                    loss = step().item()
                    done += 1
            else:
                losses = compiled.repeat(report - done, progress=False)
                loss, done = losses[-1].item(), done + len(losses)
            if done < report:
                raise KeyboardInterrupt
            print(f"  epoch {done:7,d}  loss {loss:.6f}")
    except KeyboardInterrupt:
        print(f"  stopped after epoch {done:,}")
    seconds = time.perf_counter() - start
    print(f"  {seconds:.3g} s, {1e6 * seconds / max(1, done):.2f} us an epoch")


def report(inputs: Tensor, targets: Tensor, predict: Predict) -> None:
    """Predictions next to the targets."""
    print("  input      target  prediction")
    for row, (target,), prediction in zip(inputs.tolist(), targets.tolist(), predict(), strict=True):
        print(f"  {row[0]:.0f} xor {row[1]:.0f}  {target:6.0f}  {prediction:10.4f}")


def main() -> None:
    """Parses the command line and trains both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=300_000)
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    arguments = parser.parse_args()
    inputs, targets = tinyml.data.xor()
    for name, network in (("Values", with_values), ("Tensors", with_tensors)):
        tinyml.manual_seed(arguments.seed)
        model, step, predict = network(inputs, targets, arguments.lr)
        parameters = sum(1 if isinstance(p, Value) else p.numel() for p in model.parameters())
        print(f"\nXOR with {name}: {parameters} parameters, {arguments.epochs:,} epochs")
        train(step, arguments.epochs, arguments.eager)
        report(inputs, targets, predict)


if __name__ == "__main__":
    main()

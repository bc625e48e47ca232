"""Learns XOR with a 2-4-1 tanh network of scalar Values: the graph people learn on.

Each epoch is one step of gradient descent on the squared errors of all four samples, summed. With `--tensors` the same
network then learns over arrays, from the same weights, and the losses are compared. They part by rounding alone, which
the steps magnify where they are too long for the slope: there the loss rises for a while.

python examples/xor.py [--epochs 300000] [--every 500] [--lr 0.1] [--seed 1] [--tensors] [--plot xor] [--eager]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import tinyml
from tinyml import Tensor, Value, nn, optim, viz

Step = Callable[[], Value | Tensor]


def step_over_values(mlp: nn.MLP, lr: float) -> Step:
    """A step of training in which every neuron is a node of its own for each sample."""
    inputs, targets = tinyml.data.xor()
    samples = list(zip(inputs.tolist(), targets.flatten().tolist(), strict=True))
    optimizer = optim.SGD(mlp.parameters(), lr=lr)

    def step() -> Value:
        errors = [mlp(x) - target for x, target in samples]
        loss: Value = tinyml.sum([error * error for error in errors])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def step_over_tensors(model: nn.Sequential, lr: float) -> Step:
    """The same with the four samples as one array, and a layer as one node."""
    inputs, targets = (data.double() for data in tinyml.data.xor())
    optimizer = optim.SGD(model.parameters(), lr=lr)

    def step() -> Tensor:
        loss = nn.functional.mse_loss(model(inputs), targets, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def with_tensors(mlp: nn.MLP) -> nn.Sequential:
    """The network over Tensors with the weights of one over Values."""
    layers: list[nn.Module] = []
    for layer in mlp.layers:
        linear = nn.Linear(len(layer.neurons[0].w), len(layer.neurons), dtype=tinyml.float64)
        weight, bias = linear.parameters()
        weight.data = [[w.data for w in neuron.w] for neuron in layer.neurons]
        bias.data = [neuron.b.data for neuron in layer.neurons]
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers)


def train(step: Step, epochs: int, every: int, eager: bool) -> list[float]:
    """Takes the steps and prints how the loss falls. Returns the losses: fewer when Ctrl-C ends it early."""
    compiled = tinyml.compile(step)  # the first call records, repeat() replays: no Python in the steps
    losses: list[float] = []
    start = time.perf_counter()
    try:
        while len(losses) < epochs:
            block = min(every - len(losses) % every, epochs - len(losses))
            if eager:
                for _ in range(block):
                    losses.append(step().item())
            else:
                losses += compiled.repeat(block, progress=False).tolist()
                if compiled.interrupted:
                    raise KeyboardInterrupt
            print(f"epoch {len(losses):7,}  total loss {losses[-1]:.8f}")
    except KeyboardInterrupt:
        print(f"stopped after {len(losses):,} epochs")
    seconds = time.perf_counter() - start
    print(f"{seconds:.2f} s, {1e6 * seconds / max(1, len(losses)):.2f} us an epoch")
    return losses


def report(predict: Callable[[list[float]], float]) -> None:
    """Predictions next to the targets."""
    inputs, targets = tinyml.data.xor()
    print("\ninput     target  prediction")
    for (a, b), target in zip(inputs.tolist(), targets.flatten().tolist(), strict=True):
        print(f"{a:.0f} xor {b:.0f}  {target:7.0f}  {predict([a, b]):10.6f}")


def main() -> None:
    """Parses the command line, trains, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=300_000)
    parser.add_argument("--every", type=int, default=500, help="epochs between two lines of output (30000: ten lines)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of the first weights")
    parser.add_argument("--tensors", action="store_true", help="train the same network over Tensors, too")
    parser.add_argument("--plot", metavar="PREFIX", help="save pictures as PREFIX-loss.png and PREFIX-boundary.png")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    arguments = parser.parse_args()
    if arguments.epochs < 1 or arguments.every < 1:
        parser.error("--epochs and --every must be at least 1")

    mlp = nn.MLP(2, [4, 1], activation="tanh", output="tanh", seed=arguments.seed)
    model = with_tensors(mlp)
    print(f"XOR with Values: 2-4-1, {len(mlp.parameters())} parameters, {arguments.epochs:,} epochs")
    losses = train(step_over_values(mlp, arguments.lr), arguments.epochs, arguments.every, arguments.eager)
    report(lambda x: mlp(x).data)
    if losses:
        print("\n" + viz.text_curve(losses, label="total loss", unit="epoch", log=True))
    if losses and arguments.plot:
        inputs, targets = tinyml.data.xor()
        viz.plot_history(losses, f"{arguments.plot}-loss.png")
        viz.plot_boundary(mlp, inputs, targets, f"{arguments.plot}-boundary.png", threshold=0.5)
        print(f"saved {arguments.plot}-loss.png and {arguments.plot}-boundary.png")

    if losses and arguments.tensors:
        print(f"\nXOR with Tensors: 2-4-1, {model.num_parameters()} parameters, {arguments.epochs:,} epochs")
        others = train(step_over_tensors(model, arguments.lr), arguments.epochs, arguments.every, arguments.eager)
        report(lambda x: float(model(tinyml.tensor([x], dtype=tinyml.float64))))
        apart = [abs(a - b) for a, b in zip(losses, others, strict=False)]
        alike = next((i for i, difference in enumerate(apart) if difference > 1e-9), len(apart))
        largest = max(apart[-1:], default=0.0)
        print(f"\nthe losses are the same within 1e-9 for {alike:,} epochs, and {largest:.0e} apart at the end")


if __name__ == "__main__":
    main()

"""Tells two moons apart with a network of scalar Values, as the demo of https://github.com/karpathy/micrograd does.

2-16-16-1, ReLU inside, 337 parameters; max-margin loss and an L2 penalty; the learning rate falls from 1.0 to 0.1 over
100 steps, each over all 100 points. The loss is written for one point. It is called with Tensors of 100 numbers in the
place of the point's two, and so computes all points side by side, in a graph of one node for each neuron.

python examples/moons.py [--steps 100] [--noise 0.1] [--seed 1] [--plot moons] [--eager]
"""

from __future__ import annotations

import argparse
import time

import tinyml
from tinyml import Tensor, nn, optim, viz
from tinyml.nn import functional as F

PENALTY = 1e-4  # times the sum of all squared parameters


def accuracy(score: Tensor, labels: Tensor) -> Tensor:
    """The share of scores on their label's side of 0."""
    right: Tensor = (score > 0) == (labels > 0)
    return right.double().mean()


def main() -> None:
    """Parses the command line, trains, and draws what has been learnt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.1, help="how far points stray from their moon")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the points and of the first weights")
    parser.add_argument("--plot", metavar="PREFIX", help="save pictures as PREFIX-loss.png and PREFIX-boundary.png")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    arguments = parser.parse_args()

    points, moon = tinyml.data.moons(arguments.points, noise=arguments.noise, seed=arguments.seed)
    x, y, labels = points.double()[:, 0], points.double()[:, 1], 2 * moon.double() - 1  # labels -1 and 1
    model = nn.MLP(2, [16, 16, 1], seed=arguments.seed)
    parameters = model.parameters()
    optimizer = optim.SGD(parameters, lr=1.0)
    print(f"{len(moon)} points, {len(parameters)} parameters")

    def step(x: Tensor, y: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        score = model([x, y])
        loss = F.hinge_loss(score, labels) + PENALTY * nn.utils.l2_penalty(parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, accuracy(score, labels)

    run = step if arguments.eager else tinyml.compile(step)
    losses: list[float] = []
    start = time.perf_counter()
    try:
        for k in range(arguments.steps):
            optimizer.param_groups[0]["lr"] = 1.0 - 0.9 * k / arguments.steps  # the recorded step follows
            loss, share = run(x, y, labels)
            losses.append(loss.item())
            print(f"step {k:3}  loss {losses[-1]:.6f}  accuracy {share.item():6.1%}")
    except KeyboardInterrupt:
        print(f"stopped after {len(losses)} steps")
    print(f"{time.perf_counter() - start:.3f} s")

    if losses:
        print("\n" + viz.text_curve(losses, log=True))
    print("\n" + viz.text_boundary(model, points, moon))
    print(f"accuracy at the end: {accuracy(model([x, y]), labels).item():.1%}")
    if arguments.plot and losses:
        viz.plot_history(losses, f"{arguments.plot}-loss.png")
        viz.plot_boundary(model, points, moon, f"{arguments.plot}-boundary.png")
        print(f"saved {arguments.plot}-loss.png and {arguments.plot}-boundary.png")


if __name__ == "__main__":
    main()

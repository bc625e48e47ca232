"""Tells the inside of a circle from the outside with a network of scalar Values, in epochs of small batches.

2-16-16-1, ReLU inside, 337 parameters; max-margin loss and an L2 penalty. The loss is written for one point, called
with Tensors in the place of its two numbers, and recorded; `over` then runs an epoch of shuffled batches in one call.

python examples/circle.py [--epochs 100] [--batch 10] [--lr 0.2] [--seed 42] [--plot circle] [--eager]
"""

from __future__ import annotations

import argparse
import time

import tinyml
from tinyml import Tensor, nn, optim, viz
from tinyml.data import DataLoader, TensorDataset
from tinyml.nn import functional as F

PENALTY = 1e-4  # times the sum of all squared parameters


def main() -> None:
    """Parses the command line, trains, and draws what has been learnt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--every", type=int, default=10, help="epochs between two lines of the table")
    parser.add_argument("--batch", type=int, default=10, help="points per step")
    parser.add_argument("--lr", type=float, default=0.2, help="learning rate at the start; at the end a tenth of it")
    parser.add_argument("--seed", type=int, default=42, help="of the points, the first weights and the batches")
    parser.add_argument("--plot", metavar="PREFIX", help="save pictures as PREFIX-loss.png and PREFIX-boundary.png")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    arguments = parser.parse_args()

    points, inside = tinyml.data.circle(arguments.points, seed=arguments.seed)
    x, y, labels = points.double()[:, 0], points.double()[:, 1], 2 * inside.double() - 1  # labels -1 and 1
    model = nn.MLP(2, [16, 16, 1], seed=arguments.seed)
    parameters = model.parameters()
    optimizer = optim.SGD(parameters, lr=arguments.lr)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - 0.9 * epoch / arguments.epochs)
    share = inside.double().mean().item()
    print(f"{len(inside)} points, {round(share * len(inside))} of them inside; {len(parameters)} parameters")
    print(f"the larger class has {max(share, 1 - share):.1%}: what a network that always guesses it would reach")

    def step(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = F.hinge_loss(model([x, y]), labels) + PENALTY * nn.utils.l2_penalty(parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def accuracy() -> float:
        return float(((model([x, y]) > 0) == (labels > 0)).double().mean())

    compiled = tinyml.compile(step)
    losses: list[float] = []
    start = time.perf_counter()
    print("\nEpoch |   loss | accuracy")
    try:
        for epoch in range(1, arguments.epochs + 1):
            seed = arguments.seed + epoch  # each epoch in another order
            if arguments.eager:
                loader = DataLoader(TensorDataset(x, y, labels), arguments.batch, shuffle=True, seed=seed)
                found = [step(*batch).item() for batch in loader]
            else:
                found = compiled.over(x, y, labels, batch_size=arguments.batch, shuffle=True, seed=seed).tolist()
                if compiled.interrupted:
                    raise KeyboardInterrupt
            losses.append(sum(found) / len(found))
            schedule.step()  # the recorded step follows
            if epoch in (1, arguments.epochs) or epoch % arguments.every == 0:
                print(f"{epoch:5} | {losses[-1]:.4f} | {accuracy():7.1%}")
    except KeyboardInterrupt:
        print(f"stopped after {len(losses)} epochs")
    print(f"{time.perf_counter() - start:.3f} s")

    if losses:
        print("\n" + viz.text_curve(losses, unit="epoch"))
    print("\n" + viz.text_boundary(model, points, inside))
    print(f"accuracy at the end: {accuracy():.1%}")
    if arguments.plot and losses:
        viz.plot_history(losses, f"{arguments.plot}-loss.png")
        viz.plot_boundary(model, points, inside, f"{arguments.plot}-boundary.png")
        print(f"saved {arguments.plot}-loss.png and {arguments.plot}-boundary.png")


if __name__ == "__main__":
    main()

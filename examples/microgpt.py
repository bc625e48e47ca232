"""A GPT over scalar Values, every number of it a node of the graph, and the same GPT over Tensors beside it.

Both learn to spell from the words of Python's own documentation, from the same weights, with Adam, in float64. Their
losses agree step for step, which is asserted, and the time of each is shown. Then the GPT over Values makes up words.

The Values are written for one word, one letter after the other. A step calls them with a batch, in which each number is
a vector with a word in each lane. As letters come in as one-hot vectors, one recorded graph serves all words.

python examples/microgpt.py [--steps 1000] [--batch 32] [--embedding 16] [--seed 1] [--plot microgpt] [--eager]
"""

from __future__ import annotations

import re
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any, TypeAlias

import numpy as np

import tinyml
from tinyml import Tensor, Value, optim, viz
from tinyml.nn import functional as F

Array: TypeAlias = np.ndarray[Any, Any]
Vector: TypeAlias = list[Any]  # of Values, or of Tensors (B,), one number for each word of a batch
Past: TypeAlias = list[list[tuple[Vector, Vector]]]  # for each layer the keys and values of the letters so far

ALPHABET = ".abcdefghijklmnopqrstuvwxyz"  # the dot stands before and after every word
LENGTH = 9  # positions: a word of eight letters, and the dot after it
HEADS, LAYERS, QKV = 4, 1, ("query", "key", "value")


def read_words() -> tuple[Array, Array]:
    """Words, one-hot (words, LENGTH + 1, 27), from dot to dot; and 1 for each letter to predict, (words, LENGTH)."""
    words = sorted(set(re.findall(r"\b[a-z]{3,8}\b", " ".join(topics.values()))))
    spelt = np.array([[ALPHABET.index(letter) for letter in f".{word}".ljust(LENGTH + 1, ".")] for word in words])
    lengths = np.array([[len(word) + 1] for word in words])
    return np.eye(len(ALPHABET))[spelt], (np.arange(LENGTH) < lengths).astype(float)


def initial_weights(n: int, seed: int) -> dict[str, Array]:
    """A matrix (outputs, inputs) for each linear map of n numbers per letter, and a row for each position."""
    shapes = {"letter": (n, len(ALPHABET)), "position": (LENGTH, n), "head": (len(ALPHABET), n)}
    for i in range(LAYERS):
        shapes |= {f"{name}{i}": (n, n) for name in (*QKV, "out")}
        shapes |= {f"up{i}": (4 * n, n), f"down{i}": (n, 4 * n)}
    draw = np.random.default_rng(seed)
    return {name: draw.normal(0, 0.08, shape) for name, shape in shapes.items()}


def linear(matrix: list[Vector], x: Vector, activation: str = "linear") -> Vector:
    """A matrix times a vector: one node for each row."""
    return [tinyml.dot(row, x, activation=activation) for row in matrix]


def add(x: Vector, y: Vector) -> Vector:
    """The sums of two vectors' elements."""
    return [a + b for a, b in zip(x, y, strict=True)]


def rms_norm(x: Vector) -> Vector:
    """The vector at a length that makes the mean of its squares 1."""
    scale = (tinyml.dot(x, x) / len(x) + 1e-5) ** -0.5
    return [each * scale for each in x]


def softmax(x: Vector) -> Vector:
    """Positive numbers that add up to 1. Scores of normed vectors are small: none need be taken off before exp."""
    exps = [each.exp() for each in x]
    total = tinyml.sum(exps)
    return [each / total for each in exps]


def scores_over_values(w: dict[str, list[Vector]], letter: Vector, past: Past) -> Vector:
    """Scores of what follows a letter, after those in the past, to which it is added."""
    x = add(linear(w["letter"], letter), w["position"][len(past[0])])
    size = len(x) // HEADS
    for i in range(LAYERS):
        query, key, value = (linear(w[f"{name}{i}"], rms_norm(x)) for name in QKV)
        past[i].append((key, value))
        mixed: Vector = []
        for h in range(0, len(x), size):  # each head attends with its own part of the vectors
            shares = softmax([tinyml.dot(query[h : h + size], k[h : h + size]) / size**0.5 for k, _ in past[i]])
            mixed += [tinyml.dot(shares, [v[j] for _, v in past[i]]) for j in range(h, h + size)]
        x = add(x, linear(w[f"out{i}"], mixed))
        x = add(x, linear(w[f"down{i}"], linear(w[f"up{i}"], rms_norm(x), "relu")))
    return linear(w["head"], rms_norm(x))


def loss_over_values(w: dict[str, list[Vector]], words: Tensor, counted: Tensor) -> Any:
    """The mean of -log of the probability of the right letter, over all that count."""
    past: Past = [[] for _ in range(LAYERS)]
    letters = [[words[:, t, i] for i in range(len(ALPHABET))] for t in range(LENGTH + 1)]
    shares = [softmax(scores_over_values(w, letter, past)) for letter in letters[:-1]]
    surprises = [-tinyml.dot(shares[t], letters[t + 1]).log() * counted[:, t] for t in range(LENGTH)]
    return tinyml.sum(surprises).sum() / counted.sum()


def write(w: dict[str, list[Vector]], temperature: float, draw: np.random.Generator) -> str:
    """A new word. A temperature below 1 makes likely letters likelier."""
    past: Past = [[] for _ in range(LAYERS)]
    word = "."
    while len(word) <= LENGTH and (word == "." or word[-1] != "."):
        scores = scores_over_values(w, [float(letter == word[-1]) for letter in ALPHABET], past)
        shares = [share.data for share in softmax([score / temperature for score in scores])]
        word += ALPHABET[draw.choice(len(ALPHABET), p=shares)]
    return word.strip(".")


def loss_over_tensors(w: dict[str, Tensor], words: Tensor, counted: Tensor) -> Any:
    """The same over arrays: all letters of all words at once."""
    x = F.linear(words[:, :-1], w["letter"]) + w["position"]
    shape = (*x.shape[:2], HEADS, -1)
    for i in range(LAYERS):
        normed = F.rms_norm(x, x.shape[-1:], eps=1e-5)
        query, key, value = (F.linear(normed, w[f"{name}{i}"]).reshape(shape).transpose(1, 2) for name in QKV)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + F.linear(mixed.transpose(1, 2).flatten(2), w[f"out{i}"])
        x = x + F.linear(F.linear(F.rms_norm(x, x.shape[-1:], eps=1e-5), w[f"up{i}"]).relu(), w[f"down{i}"])
    logs = F.log_softmax(F.linear(F.rms_norm(x, x.shape[-1:], eps=1e-5), w["head"]), -1)
    return -((logs * words[:, 1:]).sum(-1) * counted).sum() / counted.sum()


class Training:
    """Steps of Adam on a loss, at a learning rate that falls to 0, with their losses and times."""

    def __init__(self, loss_of: Callable[..., Any], weights: Any, parameters: list[Any], options: Namespace) -> None:
        optimizer = optim.Adam(parameters, lr=options.lr, betas=(0.9, 0.95))

        def step(words: Tensor, counted: Tensor) -> Any:
            loss = loss_of(weights, words, counted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        self.run = step if options.eager else tinyml.compile(step)
        self.schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / options.steps)
        self.losses, self.seconds = list[float](), list[float]()

    def step(self, words: Tensor, counted: Tensor) -> None:
        """Takes one."""
        start = time.perf_counter()
        self.losses.append(self.run(words, counted).item())
        self.seconds.append(time.perf_counter() - start)
        self.schedule.step()


def main() -> None:
    """Parses the command line, trains both, and compares."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32, help="words per step")
    parser.add_argument("--embedding", type=int, default=16, help=f"numbers per letter, a multiple of {HEADS}")
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate at the start")
    parser.add_argument("--temperature", type=float, default=0.6, help="below 1: likely letters more often")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", metavar="PREFIX", help="save the losses as PREFIX-loss.png")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    options = parser.parse_args()
    letters, counted = read_words()
    weights = initial_weights(options.embedding, options.seed)
    print(f"{len(letters):,} words, {sum(w.size for w in weights.values()):,} parameters")

    values = {name: [[Value(w) for w in row] for row in rows.tolist()] for name, rows in weights.items()}
    tensors = {name: tinyml.tensor(rows, requires_grad=True) for name, rows in weights.items()}
    one = Training(loss_over_values, values, [w for rows in values.values() for row in rows for w in row], options)
    other = Training(loss_over_tensors, tensors, list(tensors.values()), options)
    draw = np.random.default_rng(options.seed)
    print("step  loss over Values   over Tensors")
    try:
        for k in range(1, options.steps + 1):
            batch = draw.integers(len(letters), size=options.batch)
            for training in (one, other):
                training.step(tinyml.tensor(letters[batch]), tinyml.tensor(counted[batch]))
            if k in (1, options.steps) or k % (options.steps // 10 or 1) == 0:
                print(f"{k:4}  {one.losses[-1]:.14f}  {other.losses[-1]:.14f}")
    except KeyboardInterrupt:
        print(f"stopped after {len(other.losses)} steps")
    if not other.losses:
        return
    apart = max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=False))
    assert apart < 1e-9, f"the losses differ by {apart}"
    print(f"the two losses of a step differ by at most {apart:.1e}: below 1e-9, as asserted")
    for name, each in (("Values", one), ("Tensors", other)):
        first, usual = each.seconds[0], float(np.median(each.seconds))
        print(f"{name:7} {1e3 * first:6.2f} ms for the first step, then {1e3 * usual:5.2f} ms")
    print(viz.text_curve(one.losses))
    print("new words:", " ".join(write(values, options.temperature, draw) for _ in range(30)))
    if options.plot:
        viz.plot_history(one.losses, f"{options.plot}-loss.png")
        print(f"saved {options.plot}-loss.png")


if __name__ == "__main__":
    main()

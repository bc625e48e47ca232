"""Language models that write Python's documentation letter by letter: an LSTM, then a small causal transformer.

They learn from the text that Python ships for help() (pydoc_data.topics), without its last tenth, on which they are
judged: by how surprising the next character is to them, in nats and in bits, beside a guess that knows nothing, one
that knows how frequent characters are, and one that knows which follows which. They show what they write as they learn.

python examples/charlm.py [--model both] [--steps 600] [--temperature 0.7] [--seed 1] [--plot charlm] [--eager]
"""

from __future__ import annotations

import argparse
import math
import time
from pydoc_data.topics import topics
from typing import Any, TypeAlias

import numpy as np

import tinyml
from tinyml import Tensor, nn, optim, viz
from tinyml.nn import functional as F

Array: TypeAlias = np.ndarray[Any, Any]

CONTEXT = 64  # characters that a model sees at most
PROMPT = "The "


class LSTM(nn.Module):
    """Reads a character at a time and remembers in a state of `size` numbers what it has read."""

    def __init__(self, characters: int, size: int = 256) -> None:
        self.embedding = nn.Embedding(characters, size // 4)
        self.lstm = nn.LSTM(size // 4, size, batch_first=True)
        self.head = nn.Linear(size, characters)

    def forward(self, text: Tensor) -> Tensor:
        """The scores of what follows each character: (B, T, characters), of texts (B, T)."""
        memory, _ = self.lstm(self.embedding(text))
        scores: Tensor = self.head(memory)
        return scores


class Block(nn.Module):
    """Attention to the characters so far, then a layer on each for itself; both are added to what comes in."""

    def __init__(self, size: int, heads: int) -> None:
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inward, self.outward = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, size) to the same."""
        texts, length, size = x.shape
        heads = self.inward(self.norm1(x)).reshape(texts, length, 3, self.heads, size // self.heads)
        query, key, value = (heads[:, :, i].transpose(1, 2) for i in range(3))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.outward(mixed.transpose(1, 2).reshape(texts, length, size))
        x = x + self.mlp(self.norm2(x))
        return x


class Transformer(nn.Module):
    """Sees all characters so far at once, each with its place."""

    def __init__(self, characters: int, size: int = 128, heads: int = 4, layers: int = 2) -> None:
        self.embedding = nn.Embedding(characters, size)
        self.place = nn.Embedding(CONTEXT, size)
        self.blocks = nn.Sequential(*(Block(size, heads) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, characters))

    def forward(self, text: Tensor) -> Tensor:
        """As the LSTM's."""
        places = self.place(tinyml.arange(text.shape[1]))
        scores: Tensor = self.head(self.blocks(self.embedding(text) + places))
        return scores


def read_text() -> str:
    """Python's documentation in ASCII: quotes made straight, the few other characters left out."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    return text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).encode("ascii", "ignore").decode()


def loss_of(model: nn.Module, texts: Tensor) -> Tensor:
    """The mean surprise, -log p, at the next character, for texts (B, T + 1)."""
    return F.cross_entropy(model(texts[:, :-1]).flatten(0, 1), texts[:, 1:].flatten())


def show(label: str, nats: float) -> None:
    """A loss in both units."""
    print(f"  {label:28} {nats:.3f} nats  {nats / math.log(2):.3f} bits per character")


def show_baselines(known: Array, unknown: Array, characters: int) -> None:
    """What counting reaches on text that was not counted."""
    pairs = np.ones((characters, characters))
    np.add.at(pairs, (known[:-1], known[1:]), 1)
    single = pairs.sum(0) / pairs.sum()
    following = pairs / pairs.sum(1, keepdims=True)
    show("any character is as likely", math.log(characters))
    show("characters by frequency", float(-np.log(single[unknown[1:]]).mean()))
    show("pairs by frequency", float(-np.log(following[unknown[:-1], unknown[1:]]).mean()))


def held_out(model: nn.Module, unknown: Array) -> float:
    """The loss on text that the model has not seen, in pieces of CONTEXT characters."""
    n = (len(unknown) - 1) // CONTEXT
    pieces = unknown[np.arange(n)[:, None] * CONTEXT + np.arange(CONTEXT + 1)]
    with tinyml.no_grad():
        losses = [loss_of(model, tinyml.tensor(batch)).item() * len(batch) for batch in np.array_split(pieces, 16)]
    return float(sum(losses) / n)


def write(model: nn.Module, alphabet: str, length: int, temperature: float, draw: np.random.Generator) -> str:
    """Goes on from PROMPT. A temperature below 1 makes likely characters likelier."""
    text = [alphabet.index(letter) for letter in PROMPT]
    with tinyml.no_grad():
        for _ in range(length):
            scores = model(tinyml.tensor([text[-CONTEXT:]]))[0, -1]
            shares = F.softmax(scores.double() / temperature, 0).numpy()
            text.append(int(draw.choice(len(alphabet), p=shares)))
    return "".join(alphabet[i] for i in text)


def train(model: nn.Module, known: Array, alphabet: str, arguments: argparse.Namespace) -> list[float]:
    """Takes the steps on batches from anywhere in the text. Returns the losses: fewer when Ctrl-C ends it early."""
    optimizer = optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, total_steps=arguments.steps + 1, pct_start=0.1)
    draw = np.random.default_rng(arguments.seed)

    def step(texts: Tensor) -> Tensor:
        loss = loss_of(model, texts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = step if arguments.eager else tinyml.compile(step)
    losses: list[float] = []
    start = time.perf_counter()
    try:
        for k in range(1, arguments.steps + 1):
            starts = draw.integers(len(known) - CONTEXT, size=(arguments.batch, 1))
            losses.append(run(tinyml.tensor(known[starts + np.arange(CONTEXT + 1)])).item())
            schedule.step()  # the recorded step follows
            if k % (arguments.steps // 6 or 1) == 0:
                recent = losses[-50:]
                show(f"step {k:4}, {time.perf_counter() - start:3.0f} s", sum(recent) / len(recent))
                print(f"    {write(model, alphabet, 70, arguments.temperature, draw)!r}")
    except KeyboardInterrupt:
        print(f"  stopped after {len(losses)} steps")
    return losses


def main() -> None:
    """Parses the command line, and trains what is asked for."""
    models = {"lstm": LSTM, "transformer": Transformer}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*models, "both"], default="both")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32, help=f"pieces of {CONTEXT} characters per step")
    parser.add_argument("--lr", type=float, default=4e-3, help="largest learning rate")
    parser.add_argument("--temperature", type=float, default=0.7, help="below 1: likely characters more often")
    parser.add_argument("--length", type=int, default=600, help="characters of the last sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", metavar="PREFIX", help="save the losses as PREFIX-lstm.png and so on")
    parser.add_argument("--eager", action="store_true", help="run Python in every step, to see the difference")
    arguments = parser.parse_args()

    text = read_text()
    alphabet = "".join(sorted(set(text)))
    codes = np.array([alphabet.index(letter) for letter in text])
    known, unknown = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :]
    print(f"{len(text):,} characters, {len(alphabet)} different ones; what counting reaches on the last tenth:")
    show_baselines(known, unknown, len(alphabet))

    for name in models if arguments.model == "both" else [arguments.model]:
        tinyml.manual_seed(arguments.seed)
        model = models[name](len(alphabet))
        print(f"\n{name}: {model.num_parameters():,} parameters")
        losses = train(model, known, alphabet, arguments)
        show("on the last tenth", held_out(model, unknown))
        print(write(model, alphabet, arguments.length, arguments.temperature, np.random.default_rng(arguments.seed)))
        if losses:
            print(viz.text_curve(losses, label=f"loss of the {name} in nats per character"))
            if arguments.plot:
                viz.plot_history(losses, f"{arguments.plot}-{name}.png")
                print(f"saved {arguments.plot}-{name}.png")


if __name__ == "__main__":
    main()

"""Networks of Values, as in micrograd: Neuron, Layer, MLP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyml import _random
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError
from tinyml.functions import ACTIVATIONS, DotLayer, Weights, _nodes, dot, dots
from tinyml.nn._module import Module
from tinyml.tensor import Tensor
from tinyml.value import Value

_TITLES = {"linear": "Linear", "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "leaky_relu": "LeakyReLU"}


class Neuron(Module):
    """activation(w . x + b) of `nin` inputs, as one node and one C call.

    Weights start uniform in [-1, 1), the bias at 0. activation: "relu", "tanh", "sigmoid", "leaky_relu" (of slope 0.01)
    or "linear", which is also called "none" or None; nonlin=False is micrograd's way to say "linear". seed: a number,
    for the same weights every time, whatever else draws numbers, or a NumPy generator to draw from. With expand=True
    the graph has a node for each product and each sum instead, to look at. https://github.com/karpathy/micrograd

    Raises ArgumentError for a negative number of inputs and an unknown activation.

    >>> n = Neuron(2)
    >>> len(n.parameters()), n
    (3, ReLUNeuron(2))
    """

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        activation: str | None = "relu",
        *,
        seed: int | np.random.Generator | None = None,
        expand: bool = False,
    ) -> None:
        if nin < 0:
            raise ArgumentError(f"Neuron: got {nin} inputs, expected at least 0")
        name = "linear" if activation in (None, "none") else activation
        if name not in ACTIVATIONS:
            raise ArgumentError(f"Neuron: got activation {name!r}, expected one of {', '.join(ACTIVATIONS)}, none")
        self.w = [Value(w) for w in _generator(seed).uniform(-1, 1, nin)]
        self.b = Value(0.0)
        self.activation = name if nonlin else "linear"
        self.expand = expand

    def forward(self, x: Any, expand: bool = False) -> Any:
        """x: for each weight a number, a Value, or a Tensor (B,) of that input in many samples; for one weight not even
        in a list.

        With Tensors the result is a Tensor (B,), else a Value. expand: as for the constructor, for this call. Raises
        ShapeError for another count.
        """
        x = _inputs(x)
        if not (expand or self.expand) or len(x) != len(self.w):
            return dot(self.w, list(x), self.b, self.activation)
        total: Any = self.b
        for w, each in zip(self.w, _nodes("dot", x), strict=True):
            total = total + w * each
        return total if self.activation == "linear" else getattr(total, self.activation)()

    def __repr__(self) -> str:
        return f"{_TITLES[self.activation]}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons over the same `nin` inputs, in one C call; one output comes as a Value, several as a list.

    The other arguments, and what is raised, are those of Neuron.
    """

    def __init__(
        self,
        nin: int,
        nout: int,
        nonlin: bool = True,
        activation: str | None = "relu",
        *,
        seed: int | np.random.Generator | None = None,
        expand: bool = False,
    ) -> None:
        if nout < 0:
            raise ArgumentError(f"Layer: got {nout} outputs, expected at least 0")
        generator = _generator(seed)  # one for all
        self.neurons = [Neuron(nin, nonlin, activation, seed=generator, expand=expand) for _ in range(nout)]
        self.expand = expand
        self._weights = Weights()

    def forward(self, x: Any, expand: bool = False) -> Any:
        """x: nin numbers, Values or Tensors (B,); x and expand as for Neuron."""
        x = _inputs(x)
        layer = None if expand else self._dot_layer()
        if layer:
            out = dots(x, [layer])
        else:
            nodes = _nodes("dot", x)  # a number becomes one node for all neurons
            out = [neuron(nodes, expand=True) if expand else neuron(nodes) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def _dot_layer(self) -> DotLayer | None:
        """This layer for `dots`; None when its neurons differ in their activation, or are to be seen one by one."""
        neurons = self.neurons
        activations = {neuron.activation for neuron in neurons}
        if len(activations) != 1 or self.expand:
            return None
        return [neuron.w for neuron in neurons], [neuron.b for neuron in neurons], activations.pop(), self._weights

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """Layers of sizes `nouts` one after the other over `nin` inputs; `activation` within, none in the last.

    output: the activation of the last layer. The other arguments, and what is raised, are those of Neuron.

    >>> MLP(2, [4, 1], activation="tanh", output="tanh", seed=0)
    MLP of [Layer of [TanhNeuron(2), TanhNeuron(2), TanhNeuron(2), TanhNeuron(2)], Layer of [TanhNeuron(4)]]
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: str | None = "relu",
        output: str | None = "linear",
        *,
        seed: int | np.random.Generator | None = None,
        expand: bool = False,
    ) -> None:
        if isinstance(nouts, int):
            raise DTypeError(f"MLP: got {nouts} as sizes, expected a list of them, such as [4, {nouts}]")
        if not len(nouts):
            raise ArgumentError("MLP: got no sizes, expected at least one, that of the output")
        sizes, generator = [nin, *nouts], _generator(seed)
        activations = [*[activation] * (len(nouts) - 1), output]
        self.layers = [
            Layer(sizes[i], sizes[i + 1], activation=each, seed=generator, expand=expand)
            for i, each in enumerate(activations)
        ]

    def forward(self, x: Any, expand: bool = False) -> Any:
        """x: nin numbers, Values or Tensors (B,); x and expand as for Neuron."""
        x = _inputs(x)
        layers = [layer._dot_layer() for layer in self.layers if type(layer) is Layer and not expand]
        plain = [layer for layer in layers if layer]
        if plain and len(plain) == len(self.layers):
            out = dots(x, plain)
            return out[0] if len(out) == 1 else out
        for i, layer in enumerate(self.layers):
            x = [x] if i and isinstance(x, Node) else x
            x = layer(x, expand=True) if expand else layer(x)
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"


def _inputs(x: Any) -> Sequence[Any]:
    """The inputs as a list, one alone too; lists and rows of arrays are as they are."""
    if isinstance(x, Value | float | int):
        return [x]
    return [x] if isinstance(x, Tensor | np.generic) and not x.ndim else x


def _generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    return _random.generator() if seed is None else np.random.default_rng(seed)

"""Networks of Values, as in micrograd: Neuron, Layer, MLP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyml import _random
from tinyml._node import Node
from tinyml.errors import ArgumentError
from tinyml.functions import ACTIVATIONS, DotLayer, Weights, dot, dots
from tinyml.nn._module import Module
from tinyml.value import Value


class Neuron(Module):
    """activation(w . x + b) of `nin` inputs, as one node and one C call.

    Weights start uniform in [-1, 1), the bias at 0. activation: "relu", "tanh", "sigmoid" or "linear"; nonlin=False is
    micrograd's way to say "linear". https://github.com/karpathy/micrograd

    >>> n = Neuron(2)
    >>> len(n.parameters()), n
    (3, ReLUNeuron(2))
    """

    def __init__(self, nin: int, nonlin: bool = True, activation: str = "relu") -> None:
        if nin < 0:
            raise ArgumentError(f"Neuron: got {nin} inputs, expected at least 0")
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"Neuron: got activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        self.w = [Value(w) for w in _random.generator().uniform(-1, 1, nin)]
        self.b = Value(0.0)
        self.activation = activation if nonlin else "linear"

    def forward(self, x: Sequence[Any]) -> Any:
        """x: for each weight a number, a Value, or a Tensor (B,) of that input in many samples.

        With Tensors the result is a Tensor (B,), else a Value. Raises ShapeError for another count.
        """
        return dot(self.w, list(x), self.b, self.activation)

    def __repr__(self) -> str:
        names = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "linear": "Linear"}
        return f"{names[self.activation]}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons over the same `nin` inputs, in one C call; one output comes as a Value, several as a list."""

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]
        self._weights = Weights()

    def forward(self, x: Sequence[Any]) -> Any:
        """x: nin numbers, Values or Tensors (B,), as for Neuron."""
        layer = self._dot_layer()
        out = dots(x, [layer]) if layer else [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def _dot_layer(self) -> DotLayer | None:
        """This layer for `dots`; None when its neurons differ in their activation."""
        neurons = self.neurons
        activations = {neuron.activation for neuron in neurons}
        if len(activations) != 1:
            return None
        return [neuron.w for neuron in neurons], [neuron.b for neuron in neurons], activations.pop(), self._weights

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """Layers of sizes `nouts` one after the other over `nin` inputs; `activation` within, none in the last.

    output: the activation of the last layer.

    >>> MLP(2, [4, 1], activation="tanh", output="tanh")
    MLP of [Layer of [TanhNeuron(2), TanhNeuron(2), TanhNeuron(2), TanhNeuron(2)], Layer of [TanhNeuron(4)]]
    """

    def __init__(self, nin: int, nouts: Sequence[int], activation: str = "relu", output: str = "linear") -> None:
        sizes = [nin, *nouts]
        self.layers = [
            Layer(sizes[i], sizes[i + 1], activation=output if i == len(nouts) - 1 else activation)
            for i in range(len(nouts))
        ]

    def forward(self, x: Sequence[Any]) -> Any:
        """x: nin numbers, Values or Tensors (B,), as for Neuron; for one input a Value will do."""
        if isinstance(x, Value):
            x = [x]
        layers = [layer._dot_layer() for layer in self.layers if type(layer) is Layer]
        plain = [layer for layer in layers if layer]
        if plain and len(plain) == len(self.layers):
            out = dots(x, plain)
            return out[0] if len(out) == 1 else out
        for i, layer in enumerate(self.layers):
            x = layer([x] if i and isinstance(x, Node) else x)
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"

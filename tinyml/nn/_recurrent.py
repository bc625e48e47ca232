"""Recurrent layers and cells: RNN, LSTM and GRU over whole sequences, RNNCell, LSTMCell and GRUCell for one step.

The products of all inputs with the weights come first, as one; then one op takes a layer through the sequence, in C.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import ClassVar

from tinyml import _core
from tinyml._creation import cat, stack, zeros
from tinyml._dtypes import DTypeLike, float32
from tinyml.errors import ArgumentError, ShapeError
from tinyml.nn import functional as F
from tinyml.nn import init
from tinyml.nn._module import Module, Parameter
from tinyml.tensor import Tensor, _apply

_LSTM, _GRU, _RNN = _core.op("lstm"), _core.op("gru"), _core.op("rnn")
_NONLINEARITIES = ("tanh", "relu")


class _Recurrent(Module):
    """What layers and cells share: sizes, weights, and how their op is called."""

    _gates: ClassVar[int] = 1  # rows of the weights for each hidden number
    _states: ClassVar[tuple[str, ...]] = ("h_0",)
    nonlinearity = "tanh"

    def _set_sizes(self, input_size: int, hidden_size: int, bias: bool) -> None:
        if input_size < 1 or hidden_size < 1:
            raise ArgumentError(
                f"{type(self).__name__}: got input size {input_size} and hidden size {hidden_size}, expected at least 1"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    def _set_nonlinearity(self, nonlinearity: str) -> None:
        if nonlinearity not in _NONLINEARITIES:
            raise ArgumentError(f"{type(self).__name__}: got nonlinearity {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity

    def _add_weights(self, inputs: int, suffix: str, dtype: DTypeLike) -> None:
        rows = self._gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(zeros(shape, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Draws all weights and biases afresh."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _sequence(self, input: Tensor, states: Sequence[Tensor], suffix: str, reverse: bool) -> list[Tensor]:
        """One direction of one layer over (T, B, inputs): the outputs (T, B, hidden) and the last states."""
        weight_ih, weight_hh = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        bias_ih, bias_hh = getattr(self, "bias_ih" + suffix, None), getattr(self, "bias_hh" + suffix, None)
        biases = () if bias_hh is None else (bias_hh,)
        operands = (F.linear(input, weight_ih, bias_ih), weight_hh, *states, *biases)
        last = 0 if reverse else input.shape[0] - 1
        if self._gates == 4:
            result = _apply(_LSTM, operands, (reverse,))  # the last cell state follows the outputs
            return [result[:-1], result[last], result[-1]]
        if self._gates == 3:
            result = _apply(_GRU, operands, (reverse,))
        else:
            result = _apply(_RNN, operands, (reverse, _NONLINEARITIES.index(self.nonlinearity)))
        return [result, result[last]]

    def _check_input(self, input: Tensor, ranks: tuple[int, int], shapes: str) -> None:
        if input.ndim not in ranks or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: got input of shape {input.shape}, expected {shapes} with input size "
                f"{self.input_size}"
            )

    def _check_states(self, states: Sequence[Tensor], expected: tuple[int, ...]) -> None:
        if not isinstance(states, tuple | list) or len(states) != len(self._states):
            raise ArgumentError(
                f"{type(self).__name__}: got {type(states).__name__} for the states, expected "
                f"({', '.join(self._states)})"
            )
        for name, state in zip(self._states, states, strict=True):
            if state.shape != expected:
                raise ShapeError(f"{type(self).__name__}: got {name} of shape {state.shape}, expected {expected}")


class _Layers(_Recurrent):
    """Stacked layers over sequences."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        name = type(self).__name__
        self._set_sizes(input_size, hidden_size, bias)
        if num_layers < 1:
            raise ArgumentError(f"{name}: got {num_layers} layers, expected at least 1")
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: got dropout = {dropout}, expected a probability from 0 to 1")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{name}: dropout stands between layers, and there is but one", stacklevel=2)
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self._directions = 2 if bidirectional else 1
        for i, suffix in enumerate(self._suffixes()):
            inputs = input_size if i < self._directions else self._directions * hidden_size
            self._add_weights(inputs, suffix, dtype)
        self.reset_parameters()

    def _suffixes(self) -> Iterator[str]:
        """The ends of the parameters' names, in the order of the states."""
        for layer in range(self.num_layers):
            yield f"_l{layer}"
            if self.bidirectional:
                yield f"_l{layer}_reverse"

    def _run(self, input: Tensor, states: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """The last layer's outputs, and the last states of all layers, stacked."""
        self._check_input(input, (2, 3), "(N, L, H_in)" if self.batch_first else "(L, N, H_in) or unbatched (L, H_in)")
        batched = input.ndim == 3
        if not batched:
            input = input.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
        batch, hidden = input.shape[1], self.hidden_size
        number = self.num_layers * self._directions
        if states is None:
            start = [[zeros(batch, hidden, dtype=input.dtype)] * number] * len(self._states)
        else:
            self._check_states(states, (number, batch, hidden) if batched else (number, hidden))
            start = [list(state.reshape(number, batch, hidden)) for state in states]
        ends: list[list[Tensor]] = []
        outputs: list[Tensor] = []
        for i, suffix in enumerate(self._suffixes()):
            reverse = i % self._directions == 1
            output, *end = self._sequence(input, [state[i] for state in start], suffix, reverse)
            outputs.append(output)
            ends.append(end)
            if len(outputs) == self._directions:
                input = cat(outputs, 2) if self.bidirectional else output
                outputs = []
                if i + 1 < number:
                    input = F.dropout(input, self.dropout, self.training)
        if not batched:
            input = input.squeeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
        last = [stack(state) for state in zip(*ends, strict=True)]
        return input, last if batched else [state.squeeze(1) for state in last]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            if (setting := getattr(self, name)) != default:
                text += f", {name}={setting}"
        return text


class RNN(_Layers):
    """Elman's recurrent layers: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html. Sequences are (L, N, input_size), with batch_first
    (N, L, input_size), or without a batch (L, input_size). dropout stands between layers, in training. Parameters are
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 and so on, for the other direction with _reverse at the end, all
    uniform in +-1 / sqrt(hidden_size). There are no packed sequences.

    >>> import tinyml
    >>> output, h = RNN(3, 5, num_layers=2)(tinyml.randn(7, 4, 3))
    >>> output.shape, h.shape
    ((7, 4, 5), (2, 4, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        self._set_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(output, h_n): output (L, N, directions * hidden); hx and h_n (layers * directions, N, hidden), hx by default
        zeros. Raises ShapeError for other shapes and for a sequence of length zero.
        """
        output, (h,) = self._run(input, None if hx is None else [hx])
        return output, h


class GRU(_Layers):
    """Gated recurrent units, with the bias b_hn within the reset gate's product.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html. Shapes and parameters as in RNN; the rows of the
    weights are the gates r, z, n.

    >>> import tinyml
    >>> output, h = GRU(3, 5, bidirectional=True)(tinyml.randn(7, 4, 3))
    >>> output.shape, h.shape
    ((7, 4, 10), (2, 4, 5))
    """

    _gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(output, h_n), as RNN.forward."""
        output, (h,) = self._run(input, None if hx is None else [hx])
        return output, h


class LSTM(_Layers):
    """Long short-term memory.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html. Shapes and parameters as in RNN; the rows of the
    weights are the gates i, f, g, o. There is no proj_size.

    >>> import tinyml
    >>> output, (h, c) = LSTM(3, 5, batch_first=True)(tinyml.randn(4, 7, 3))
    >>> output.shape, h.shape, c.shape
    ((4, 7, 5), (1, 4, 5), (1, 4, 5))
    """

    _gates = 4
    _states = ("h_0", "c_0")

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(output, (h_n, c_n)), from hx = (h_0, c_0); otherwise as RNN.forward."""
        output, (h, c) = self._run(input, hx)
        return output, (h, c)


class _Cell(_Recurrent):
    """One step of one layer."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = float32) -> None:
        self._set_sizes(input_size, hidden_size, bias)
        self._add_weights(input_size, "", dtype)
        self.reset_parameters()

    def _step(self, input: Tensor, states: Sequence[Tensor] | None) -> list[Tensor]:
        """The states after a step over (N, inputs)."""
        self._check_input(input, (1, 2), "(N, H_in) or unbatched (H_in,)")
        batched = input.ndim == 2
        shape = (input.shape[0] if batched else 1, self.hidden_size)
        if states is None:
            states = [zeros(shape, dtype=input.dtype)] * len(self._states)
        else:
            self._check_states(states, shape if batched else shape[1:])
            states = [state.reshape(shape) for state in states]
        _, *last = self._sequence(input.reshape(1, shape[0], self.input_size), states, "", False)
        return last if batched else [state.squeeze(0) for state in last]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += f", bias={self.bias}"
        if self.nonlinearity != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(_Cell):
    """One step of an RNN: input (N, input_size) and hx (N, hidden_size), or both without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: DTypeLike = float32,
    ) -> None:
        self._set_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h; hx is by default zeros."""
        return self._step(input, None if hx is None else [hx])[0]


class GRUCell(_Cell):
    """One step of a GRU: input (N, input_size) and hx (N, hidden_size), or both without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """

    _gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h; hx is by default zeros."""
        return self._step(input, None if hx is None else [hx])[0]


class LSTMCell(_Cell):
    """One step of an LSTM: input (N, input_size) and hx = (h, c), each (N, hidden_size), or all without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    >>> import tinyml
    >>> h, c = LSTMCell(3, 5)(tinyml.randn(4, 3))
    >>> h.shape, c.shape
    ((4, 5), (4, 5))
    """

    _gates = 4
    _states = ("h_0", "c_0")

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next (h, c); hx is by default zeros."""
        h, c = self._step(input, hx)
        return h, c

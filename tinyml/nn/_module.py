"""Module, the base of networks, and Parameter, a tensor that a module owns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from tinyml import _core, _recording
from tinyml._dtypes import Array
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Tensor, tensor
from tinyml.value import Value

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A leaf that requires a gradient and that a Module finds among its attributes.

    It shares the memory of the tensor it is made from (0-d: copies it).
    """

    __slots__ = ()

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        if not isinstance(data, Tensor):
            data = tensor(data)
        parameter = cls._wrap(_core.detach(data._ref))
        parameter.requires_grad = requires_grad
        return parameter

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Module:
    """The base of layers and networks: assign parameters and modules as attributes, and define forward().

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html. Values count as parameters too, alone or in
    lists.

    >>> from tinyml import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         self.hidden = nn.Linear(2, 4)
    ...         self.out = nn.Linear(4, 1)
    ...
    ...     def forward(self, x):
    ...         return self.out(self.hidden(x).tanh())
    >>> sum(p.numel() for p in Net().parameters())
    17
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}.forward: not defined")

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, self)
        if before is not value:
            _recording.changed("changing a module's attribute" if before is not self and name != "training" else "")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _recording.changed()
        object.__delattr__(self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _recording.active is not None:
            _recording.used(self)
        return self.forward(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes, with their names, in the order of assignment."""
        for name, attribute in vars(self).items():
            if isinstance(attribute, Module):
                yield name, attribute
            elif isinstance(attribute, list | tuple):
                for i, element in enumerate(attribute):
                    if isinstance(element, Module):
                        yield f"{name}.{i}", element

    def children(self) -> Iterator[Module]:
        """The modules among the attributes."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all within it, with dotted names."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all within it."""
        return (module for _, module in self.named_modules())

    def _own_parameters(self) -> Iterator[tuple[str, Any]]:
        for name, attribute in vars(self).items():
            if isinstance(attribute, Parameter | Value):
                yield name, attribute
            elif isinstance(attribute, list | tuple):
                for i, element in enumerate(attribute):
                    if isinstance(element, Parameter | Value):
                        yield f"{name}.{i}", element

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """All parameters with dotted names, each once."""
        seen: set[Node] = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._own_parameters():
                if parameter not in seen:
                    seen.add(parameter)
                    yield f"{prefix}.{name}" if prefix else name, parameter

    def parameters(self) -> list[Any]:
        """All parameters, each once. A list where PyTorch gives an iterator."""
        return [parameter for _, parameter in self.named_parameters()]

    def train(self: M, mode: bool = True) -> M:
        """Puts this module and all within it into training mode (or out of it)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Puts this module and all within it into evaluation mode."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Clears the gradient of every parameter."""
        _core.zero_grad(_core.refs([parameter._ref for parameter in self.parameters()]))

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Switches the gradient of every parameter on or off."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def _to(self: M, dtype: str) -> M:
        converted: dict[Node, Parameter] = {}  # what several modules share stays shared

        def convert(attribute: Any) -> Any:
            if isinstance(attribute, list | tuple) and any(isinstance(x, Parameter) for x in attribute):
                return type(attribute)(map(convert, attribute))
            if not isinstance(attribute, Parameter):
                return attribute
            if attribute not in converted:
                numbers = attribute.detach().to(dtype)
                converted[attribute] = Parameter(numbers, attribute.requires_grad)
            return converted[attribute]

        for module in self.modules():
            for name, attribute in list(vars(module).items()):
                if (replacement := convert(attribute)) is not attribute:
                    setattr(module, name, replacement)
        return self

    def double(self: M) -> M:
        """Replaces every parameter by one in float64. Do it before an optimizer takes the parameters."""
        return self._to("float64")

    def float(self: M) -> M:
        """Replaces every parameter by one in float32. Do it before an optimizer takes the parameters."""
        return self._to("float32")

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter's numbers as NumPy arrays, by dotted name (PyTorch: tensors)."""
        return {name: _numbers(parameter) for name, parameter in self.named_parameters()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copies numbers into the parameters of the same names.

        Raises ArgumentError for missing or unexpected names and ShapeError for another shape; then nothing is changed.
        """
        parameters = dict(self.named_parameters())
        missing, unexpected = (
            parameters.keys() - state_dict.keys(),
            state_dict.keys() - parameters.keys(),
        )
        if missing or unexpected:
            raise ArgumentError(
                f"load_state_dict: missing {sorted(missing)}, unexpected {sorted(unexpected)}; "
                "build the module with the settings it was saved with"
            )
        numbers = {}
        for name, parameter in parameters.items():
            given = state_dict[name]
            array = given.detach().numpy() if isinstance(given, Tensor) else np.asarray(given)
            expected = () if isinstance(parameter, Value) else parameter.shape
            if array.shape != expected:
                raise ShapeError(f"load_state_dict: {name} has shape {array.shape}, expected {expected}")
            if array.dtype.kind not in "fiub":
                raise DTypeError(f"load_state_dict: {name} is {array.dtype}, expected numbers")
            numbers[name] = array
        for name, parameter in parameters.items():
            if isinstance(parameter, Value):
                parameter.data = numbers[name].item()
            else:
                parameter.data = numbers[name].astype(parameter.dtype.numpy)

    def extra_repr(self) -> str:
        """The settings to show in the repr."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.named_children():
            lines.append(f"  ({name}): " + repr(child).replace("\n", "\n  "))
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _numbers(parameter: Any) -> Array:
    if isinstance(parameter, Value):
        return np.array(parameter.data)
    copy: Array = parameter.detach().numpy().copy()
    return copy

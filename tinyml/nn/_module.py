"""Module, the base of networks, and Parameter, a tensor that a module owns and training changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tinyml import _core, _recording
from tinyml._creation import zeros
from tinyml._dtypes import Array, DTypeLike
from tinyml._node import Node
from tinyml.errors import ArgumentError, DTypeError, ShapeError
from tinyml.tensor import Tensor, tensor
from tinyml.value import Value

if TYPE_CHECKING:
    from tinyml.nn._summary import Summary

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
    lists, and lists of modules as modules. Tensors that are state but no parameters are buffers: register_buffer().

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
    _buffers: Mapping[str, bool] = MappingProxyType({})  # by name: whether state_dict() has it

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

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Makes a tensor the attribute `name` that belongs to the module's state but is no parameter: running
        statistics, masks. None keeps the name free for one.

        state_dict() has the persistent ones, double() and float() convert those of floats. To change one within a
        compiled function assign to its `data`, which replays repeat. Raises ArgumentError for a name that is taken.
        https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_buffer

        >>> import tinyml
        >>> counter = Module()
        >>> counter.register_buffer("calls", tinyml.tensor(0))
        >>> counter.calls.data = counter.calls + 1
        >>> counter.state_dict()
        {'calls': array(1)}
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DTypeError(f"register_buffer: got {type(tensor).__name__} for {name!r}, expected a Tensor or None")
        if name not in self._buffers:
            self._check_name("register_buffer", name)
        object.__setattr__(self, "_buffers", {**self._buffers, name: persistent})
        setattr(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | Value | None) -> None:
        """Assigns a parameter to the attribute `name`; for names that are made up at run time.

        Raises ArgumentError for a name that is taken.
        """
        if param is not None and not isinstance(param, Parameter | Value):
            raise DTypeError(f"register_parameter: got {type(param).__name__} for {name!r}, expected an nn.Parameter")
        self._check_name("register_parameter", name)
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Assigns a module to the attribute `name`; for names that are made up at run time, which may be numbers.

        Raises ArgumentError for a name that is taken by anything but a module.
        """
        if module is not None and not isinstance(module, Module):
            raise DTypeError(f"add_module: got {type(module).__name__} for {name!r}, expected a Module")
        if not isinstance(vars(self).get(name), Module):
            self._check_name("add_module", name)
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, op: str, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(f"{op}: got the name {name!r}, expected a word without dots")
        if getattr(self, name, None) is not None:
            raise ArgumentError(f"{op}: {type(self).__name__} has an attribute {name!r} already; choose another name")

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

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all within it, with dotted names; each once, unless remove_duplicate is False."""
        return self._walk(prefix, set() if remove_duplicate else None)

    def _walk(self, prefix: str, seen: set[Module] | None) -> Iterator[tuple[str, Module]]:
        if seen is not None:
            if self in seen:
                return
            seen.add(self)
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all within it, each once."""
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

    def num_parameters(self) -> int:
        """The number of numbers in all parameters, of which a Value has one. PyTorch has no name for it.

        >>> from tinyml import nn
        >>> nn.Linear(3, 2).num_parameters(), nn.MLP(3, [4, 1]).num_parameters()
        (8, 21)
        """
        return sum(_core.size(parameter._ref) for parameter in self.parameters())

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name in self._buffers:
            if (buffer := vars(self).get(name)) is not None:
                yield name, buffer

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names, each once."""
        seen: set[Tensor] = set()
        for prefix, module in self.named_modules():
            for name, buffer in module._own_buffers():
                if buffer not in seen:
                    seen.add(buffer)
                    yield f"{prefix}.{name}" if prefix else name, buffer

    def buffers(self) -> list[Tensor]:
        """All buffers, each once. A list where PyTorch gives an iterator."""
        return [buffer for _, buffer in self.named_buffers()]

    def apply(self: M, fn: Callable[[Module], object]) -> M:
        """Calls fn(module) for every module within this one and then for itself, as to initialise them."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Puts this module and all within it into training mode (or out of it)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Puts this module and all within it into evaluation mode."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradient of every parameter; with set_to_none=False those there are become zeros instead."""
        cleared = []
        for parameter in self.parameters():
            if set_to_none or isinstance(parameter, Value):
                cleared.append(parameter._ref)
            elif parameter.grad is not None:
                parameter.grad = zeros(parameter.shape, dtype=parameter.dtype)
        _core.zero_grad(_core.refs(cleared))

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Switches the gradient of every parameter on or off."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def _to(self: M, dtype: str) -> M:
        converted: dict[Node, Tensor] = {}  # what several modules share stays shared

        def convert(attribute: Any, is_buffer: bool) -> Any:
            if isinstance(attribute, list | tuple) and any(isinstance(x, Parameter) for x in attribute):
                return type(attribute)(convert(x, False) for x in attribute)
            if not (is_buffer or isinstance(attribute, Parameter)) or attribute is None:
                return attribute
            if not attribute.dtype.is_floating_point:
                return attribute
            if attribute not in converted:
                numbers = attribute.detach().to(dtype)
                is_parameter = isinstance(attribute, Parameter)
                converted[attribute] = Parameter(numbers, attribute.requires_grad) if is_parameter else numbers
            return converted[attribute]

        for module in self.modules():
            for name, attribute in list(vars(module).items()):
                if (replacement := convert(attribute, name in module._buffers)) is not attribute:
                    setattr(module, name, replacement)
        return self

    def double(self: M) -> M:
        """Replaces parameters and buffers of floats by ones in float64. Do it before an optimizer takes them."""
        return self._to("float64")

    def float(self: M) -> M:
        """Replaces parameters and buffers of floats by ones in float32. Do it before an optimizer takes them."""
        return self._to("float32")

    def _state(self) -> Iterator[tuple[str, Any]]:
        """What is saved, as PyTorch orders it: module by module, parameters before buffers, under all their names."""
        for prefix, module in self.named_modules(remove_duplicate=False):
            persistent = ((name, buffer) for name, buffer in module._own_buffers() if module._buffers[name])
            for name, own in (*module._own_parameters(), *persistent):
                yield f"{prefix}.{name}" if prefix else name, own

    def state_dict(self) -> dict[str, Array]:
        """A copy of the numbers of parameters and persistent buffers, by dotted name: NumPy arrays (PyTorch: tensors).

        What is shared stands under each of its names. Names, order and shapes are PyTorch's for the same modules.
        """
        return {name: _numbers(own) for name, own in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copies numbers into the parameters and buffers of the same names: arrays, or tensors, PyTorch's too.

        Raises ArgumentError for missing or unexpected names and ShapeError for another shape; then nothing is changed.
        """
        state = dict(self._state())
        missing, unexpected = state.keys() - state_dict.keys(), state_dict.keys() - state.keys()
        if missing or unexpected:
            raise ArgumentError(
                f"load_state_dict: missing {sorted(missing)}, unexpected {sorted(unexpected)}; "
                "build the module with the settings it was saved with"
            )
        numbers = {}
        for name, own in state.items():
            given = state_dict[name]
            array = given.detach().numpy() if isinstance(given, Tensor) else np.asarray(given)
            expected = () if isinstance(own, Value) else own.shape
            if array.shape != expected:
                raise ShapeError(f"load_state_dict: {name} has shape {array.shape}, expected {expected}")
            if array.dtype.kind not in "fiub":
                raise DTypeError(f"load_state_dict: {name} is {array.dtype}, expected numbers")
            numbers[name] = array
        for name, own in state.items():
            if isinstance(own, Value):
                own.data = numbers[name].item()
            else:
                own.data = numbers[name].astype(own.dtype.numpy)

    def summary(self, *inputs: Any, dtype: DTypeLike = "float32") -> Summary:
        """A table of the modules with what they give and their parameters, for print(); an object with the numbers too.

        inputs: for each argument of forward() its shape, a tuple with the batch in it, or a tensor. The model runs
        once, in eval mode and without gradients, on zeros of `dtype`, which is "int64" for an Embedding. PyTorch has no
        summary; this one is after torchinfo's. Raises DTypeError for what is no shape, and whatever forward() raises.

        >>> from tinyml import nn
        >>> nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).summary((64, 784))
        layer        output     parameters
        ----------------------------------
        Sequential   (64, 10)            -
          0: Linear  (64, 128)     100,480
          1: ReLU    (64, 128)           -
          2: Linear  (64, 10)        1,290
        ----------------------------------
        101,770 parameters, 101,770 trainable, 397.5 KiB
        """
        from tinyml.nn._summary import summary  # which imports this module

        return summary(self, *inputs, dtype=dtype)

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

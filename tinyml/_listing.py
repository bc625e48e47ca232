"""How a recorded program is printed: a line per step with shapes, bytes and flops."""

from __future__ import annotations

from tinyml import _core
from tinyml._dtypes import DTYPES

_MANY = ("update", "clear", "clip norm", "clip value")
_MOST_STEPS, _MOST_INSIDE = 300, 40


def title(step: _core.StepView) -> str:
    """What a step is: its kind and its op or rule."""
    if step.kind in _MANY or step.inside:
        return f"{step.kind} {step.rule}".strip()
    return f"{step.kind} {_core.op_of(step.ref) if step.ref else ''}".strip()


def listing(steps: list[_core.StepView], size: int) -> str:
    """The whole text; size: the bytes of the program's arrays."""
    lines = [f"{len(steps):,} steps, arrays of {size:,} bytes, {sum(map(flops, steps)):,} flops in products"]
    for i, step in enumerate(steps[:_MOST_STEPS]):
        lines += _lines(step, f"{i:4}  ")
    if len(steps) > _MOST_STEPS:
        lines.append(f"      ... and {len(steps) - _MOST_STEPS:,} more steps")
    return "\n".join(lines)


def _lines(step: _core.StepView, margin: str) -> list[str]:
    """A step's line, and below it those of the steps that it does in one go."""
    lines = [f"{margin}{title(step):28}{_details(step)}".rstrip()]
    deeper = " " * (len(margin) + 2)
    for inner in step.inside[:_MOST_INSIDE]:
        lines += _lines(inner, deeper)
    if len(step.inside) > _MOST_INSIDE:
        lines.append(f"{deeper}... and {len(step.inside) - _MOST_INSIDE:,} more")
    return lines


def _details(step: _core.StepView) -> str:
    if step.inside:
        return f"{len(step.inside):,} steps in one"
    if step.kind in _MANY:
        return f"{step.nodes:,} node{'s' * (step.nodes != 1)}"
    if not step.ref:
        return ""
    shape, inputs = _core.shape(step.ref), _input_shapes(step.ref)
    text = f"{', '.join(map(str, inputs))} -> {shape}" if inputs and step.kind == "forward" else str(shape)
    text += f" {DTYPES[_core.dtype_of(step.ref)].name}"
    count = flops(step)
    return f"{text}, {count:,} flops" if count else text


def _input_shapes(ref: int) -> list[tuple[int, ...]]:
    return [_core.shape(each) for each in _core.borrowed_inputs(ref)]


def flops(step: _core.StepView) -> int:
    """The floating point operations of a step's matrix products."""
    if step.inside:
        return sum(map(flops, step.inside))
    if step.kind not in ("forward", "backward", "descend") or _core.op_of(step.ref) not in ("linear", "matmul"):
        return 0
    inputs = _core.borrowed_inputs(step.ref)
    wanted = sum(bool(_core.requires_grad(x)) for x in inputs[:2])
    once = 2 * _core.size(step.ref) * _core.shape(inputs[0])[-1]
    return once if step.kind == "forward" else once * wanted

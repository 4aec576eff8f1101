"""The operations that our networks use, at small shapes that they have, on inputs drawn anew; on a GPU at the
large shapes of the node at hand as well.

Each runs forward and backward after NaN were written to memory and freed, so that a kernel which reads what
nobody wrote gives itself away. Convolutions of small maps are checked in float32 alone: they never run in
bf16 (``components/_autocast.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from sfrbench.components.core import Precision
from sfrbench.engine.arithmetic import arithmetic
from sfrbench.machine.selfcheck_fault import Fault, Shapes

#: Most that the norm of a difference may be, as a share of the norm. What is right is off by 0.005, 0.0005
#: and 1e-6; what is wrong by 0.5 and more.
LIMIT: dict[Precision, float] = {"bf16": 0.1, "tf32": 0.01, "fp32": 1e-3}
#: The same of fp32 on a card: so little that TF32 in its place is found.
ON_CARD = 1e-4
LOWER: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
HIGHER: dict[Precision, torch.dtype] = {"bf16": torch.float32, "tf32": torch.float32, "fp32": torch.float64}
#: Sizes of the blocks of NaN, in numbers.
_BLOCKS = [2**power for power in range(5, 17)]


@dataclass(frozen=True)
class Operation:
    """``call`` takes one tensor of each shape; ``maps`` says which of them are channels-last."""

    name: str
    call: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    bf16: bool = True
    channels_last: bool = True

    def inputs(self, rng: torch.Generator) -> list[Tensor]:
        """Numbers that bfloat16 holds, scaled by the fan-in where there are weights."""
        found = []
        for place, shape in enumerate(self.shapes):
            scale = math.prod(shape[1:]) ** -0.5 if place and len(shape) > 1 else 1.0
            values = (scale * torch.randn(shape, generator=rng)).bfloat16().double()
            layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
            layout = layouts.get(len(shape)) if self.channels_last else None
            found.append(values if layout is None else values.contiguous(memory_format=layout))
        return found


def _conv(
    name: str, sides: tuple[int, ...], widths: tuple[int, int], kernel: int, batch: int = 2, **options: int
) -> Operation:
    """A convolution of a map (batch, C, *sides); options: stride, groups, padding, last (0: contiguous)."""
    inside, outside = widths
    call = F.conv3d if len(sides) == 3 else F.conv2d if len(sides) == 2 else F.conv1d
    weight = (outside, inside // options.get("groups", 1), *[kernel] * len(sides))
    shapes = ((batch, inside, *sides), weight, (outside,))
    small = min(sides) // options.get("stride", 1) <= 2
    last = options.pop("last", 1) == 1
    text = f"{name} {kernel}, {inside} to {outside}, of {'x'.join(map(str, sides))}"
    return Operation(text, partial(call, **options), shapes, not small, last)


def _up(sides: tuple[int, ...], widths: tuple[int, int], batch: int = 2) -> Operation:
    inside, outside = widths
    call = F.conv_transpose3d if len(sides) == 3 else F.conv_transpose2d
    shapes = ((batch, inside, *sides), (inside, outside, *[2] * len(sides)), (outside,))
    text = f"transposed convolution 2, {inside} to {outside}, of {'x'.join(map(str, sides))}"
    return Operation(text, partial(call, stride=2), shapes)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The plain steps."""
    mixed: Tensor = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
    return mixed


def _biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _instance_norm(maps: Tensor) -> Tensor:
    normed: Tensor = F.instance_norm(maps)
    return normed


def _batch_norm(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(maps, None, None, weight, bias, training=True)


def _group_norm(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.group_norm(maps, 4, weight, bias)


def _layer_norm(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(tokens, list(weight.shape), weight, bias)


def _enlarged(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="trilinear")


def operations() -> list[Operation]:
    """Convolutions of V-Net, 3D U-Net and SAM, their norms, attention and linear layers."""
    maps, qkv = (2, 8, 4, 3, 3), ((2, 2, 49, 16),) * 3
    large = [(4, 4, 3), (3, 5, 4), (8, 8, 4)]
    small = [(2, 2, 2), (2, 2, 1), (1, 1, 1), (2, 4, 4), (1, 4, 4)]
    plain = [_conv("convolution", sides, (8, 8), 3, padding=1) for sides in large + small]
    contiguous = [_conv("convolution, contiguous,", (4, 4, 3), (16, 8), 3, padding=1, last=0)]
    norms = [
        Operation("instance norm", _instance_norm, (maps,)),
        Operation("batch norm", _batch_norm, (maps, (8,), (8,))),
        Operation("group norm", _group_norm, (maps, (8,), (8,))),
        Operation("layer norm", _layer_norm, ((2, 49, 32), (32,), (32,))),
    ]
    attention = [
        Operation("attention in plain steps", _attention, qkv),
        Operation("fused attention", F.scaled_dot_product_attention, qkv),
        Operation("fused attention with a bias", _biased, (*qkv, (1, 2, 49, 49))),
    ]
    return [
        *plain,
        *contiguous,
        _conv("convolution", (16, 16, 4), (1, 8), 3, padding=1),
        _conv("convolution", (4, 4, 3), (8, 3), 1),
        _conv("strided convolution", (8, 8, 6), (8, 16), 2, stride=2),
        _up((4, 4, 3), (16, 8)),
        *(
            _conv("depthwise convolution", sides, (8, 8), 3, padding=1, groups=8)
            for sides in ((3, 4, 4), (2, 4, 4))
        ),
        _conv("patch embedding", (64, 64), (3, 32), 16, stride=16),
        _conv("convolution", (4, 4), (32, 16), 1),
        _conv("convolution", (4, 4), (16, 16), 3, padding=1),
        _conv("depthwise convolution", (8, 8), (16, 16), 3, padding=1, groups=16),
        _conv("strided depthwise convolution", (8, 8), (16, 16), 3, padding=1, stride=2, groups=16),
        _up((4, 4), (16, 4)),
        _conv("slice embedding", (48,), (16, 16), 16, stride=16, groups=16),
        Operation("linear 32 to 96", F.linear, ((2, 49, 32), (96, 32), (96,))),
        *attention,
        *norms,
        Operation("trilinear enlarging", _enlarged, (maps,)),
        Operation("max pooling", partial(F.max_pool3d, kernel_size=2), ((2, 8, 8, 6, 4),)),
    ]


def in_use(shapes: Shapes) -> list[Operation]:
    """The largest of a network: of a 3D segmenter on its patch, of SAM's ViT-B on its canvas."""
    found: list[Operation] = []
    if shapes.patch and shapes.filters:
        patch, width = shapes.patch, shapes.filters
        half, least = (tuple(side // by for side in patch) for by in (2, 16))
        found += [
            _conv("convolution", patch, (1, width), 3, 1, padding=1),
            _conv("convolution", patch, (width, width), 3, 1, padding=1),
            _conv("convolution, contiguous,", patch, (width, width), 3, 1, padding=1, last=0),
            _conv("strided convolution", patch, (width, 2 * width), 2, 1, stride=2),
            _conv("convolution", least, (16 * width, 16 * width), 3, 1, padding=1),
            _up(half, (2 * width, width), 1),
            _conv("convolution", patch, (width, 2), 1, 1),
        ]
    if shapes.canvas:
        side = shapes.canvas // 16
        tokens, qkv = side**2, ((1, 2, side**2, 64 + 2 * side),) * 3
        found += [
            _conv("patch embedding", (shapes.canvas,) * 2, (3, 768), 16, 1, stride=16),
            Operation(f"linear 768 to 2304, of {tokens}", F.linear, ((tokens, 768), (2304, 768), (2304,))),
            Operation(f"linear 3072 to 768, of {tokens}", F.linear, ((tokens, 3072), (768, 3072), (768,))),
            Operation(f"fused attention of {tokens}", F.scaled_dot_product_attention, qkv),
            _conv("convolution", (side, side), (256, 256), 3, 1, padding=1),
            _up((side, side), (256, 64), 1),
        ]
    return found


def check(
    device: str, precisions: Sequence[Precision] = ("bf16", "fp32"), used: Shapes | None = None
) -> tuple[int, float, list[Fault]]:
    """How many comparisons were made on the device, the seconds they took, and what is wrong: all operations
    at small shapes against the CPU, and at the large ones ``used`` against float32 on the device."""
    began, rng = time.perf_counter(), torch.Generator().manual_seed(0)
    todo = [(operation, precision, "cpu") for operation in operations() for precision in precisions]
    large = [] if used is None else in_use(used)
    todo += [(each, precision, device) for each in large for precision in precisions if precision != "fp32"]
    todo = [(each, precision, on) for each, precision, on in todo if each.bf16 or precision != "bf16"]
    with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
        found = [compare(each, precision, device, rng, on) for each, precision, on in todo]
    return len(todo), time.perf_counter() - began, [fault for fault in found if fault is not None]


def compare(
    operation: Operation, precision: Precision, device: str, rng: torch.Generator, reference: str = "cpu"
) -> Fault | None:
    """The worst fault of one operation in ``precision``, against the device ``reference``; None if right."""
    inputs = operation.inputs(rng)
    with arithmetic(tf32=False):
        expected = _parts(operation.call, inputs, HIGHER[precision], reference)
    limit = ON_CARD if precision == "fp32" and device != "cpu" else LIMIT[precision]
    try:
        with arithmetic(tf32=precision == "tf32"):
            got = _parts(operation.call, inputs, LOWER[precision], device)
    except RuntimeError as error:  # oneDNN refuses what a processor cannot do
        if isinstance(error, torch.OutOfMemoryError):  # says nothing of the numbers
            raise
        reason = f"raises {str(error).splitlines()[0][:120]!r};"
        return Fault(precision=precision, operation=operation.name, part=reason, off=None, limit=limit)
    names = ["the result is", *(f"the gradient of input {place} is" for place in range(1, len(got)))]
    shares = [_share(one, other) for one, other in zip(got, expected, strict=True)]
    worst, name = max(zip(shares, names, strict=True))
    if worst <= limit:
        return None
    off = worst if math.isfinite(worst) else None
    return Fault(precision=precision, operation=operation.name, part=name, off=off, limit=limit)


def _parts(
    call: Callable[..., Tensor], inputs: list[Tensor], dtype: torch.dtype, device: str
) -> list[Tensor]:
    """The result and the gradients of all inputs, in float64 on the CPU."""
    given = [value.to(device, dtype).requires_grad_() for value in inputs]
    leave_nan(device)
    result = call(*given)
    ramp = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).reshape(result.shape)
    weight = (1 + ramp.cos() * (40 * ramp).sin()).to(device, dtype)
    leave_nan(device)
    gradients = torch.autograd.grad(result, given, weight)
    return [part.detach().cpu().double() for part in (result, *gradients)]


def _share(got: Tensor, expected: Tensor) -> float:
    """The norm of the difference as a share of the norm; infinite where it is no number."""
    off = float((got - expected).norm() / expected.norm())
    return off if math.isfinite(off) else math.inf


def leave_nan(device: str) -> None:
    """Write NaN to memory of many sizes and free it."""
    held = [torch.full((size,), math.nan, device=device) for size in _BLOCKS for _ in range(3)]
    del held

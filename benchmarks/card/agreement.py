"""Whether the card computes what the CPU does: attention, a V-Net, a prediction; how fast windows slide."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from card.material import Bench, Row, fault
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.foundation import _attention, _grid, _pieces
from sfrbench.engine.arithmetic import arithmetic
from sfrbench.engine.inference import backbone_forward, slide


def attention(bench: Bench) -> Iterator[Row]:
    """Global attention by each way: how far values and gradients are from float64, and its time."""
    side, heads, width = bench.scale.tokens, 12, 64
    draw = torch.Generator().manual_seed(0)
    shapes = [(heads, side * side, width)] * 3 + [(heads, side * side, side)] * 2
    plain = [torch.randn(shape, generator=draw) for shape in shapes]
    dtype = torch.bfloat16 if bench.on_card else torch.float32
    given = [part.to(bench.device, dtype).requires_grad_() for part in plain]
    ways = {
        "fused": lambda q, k, v, a, b: _attention.by_fused_kernel(*_attention.joined(q, k, a, b), v),
        "rows": _grid.by_rows if bench.on_card else _pieces.InPieces.apply,
    }
    exact = [part.detach()[:1].double().cpu() for part in given]
    wanted = _attention.attend(exact[0] / width**-0.5, *exact[1:])
    for name, way in ways.items():

        def step(way=way) -> None:  # type: ignore[no-untyped-def]
            torch.autograd.grad(way(*given).float().square().sum(), given)

        try:
            off = (way(*given)[:1].double().cpu() - wanted).detach().abs().max() / wanted.abs().max()
            row = {"ms there and back": round(1000 * bench.seconds(step), 2), "off": f"{float(off):.1e}"}
        except Exception as error:  # one row of many says so
            row = {"fault": fault(error)}
        yield {"attention": name, **row}


def networks(bench: Bench) -> Iterator[Row]:
    """A V-Net and its prediction of a volume, on the card in each precision against the CPU in fp32."""
    scale = bench.scale
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, *scale.patch, generator=draw)
    volume = torch.randn(*(side + 8 for side in scale.patch), generator=draw)
    net = VNet(filters=scale.filters).build(2).eval()
    state = net.state_dict()
    with torch.no_grad():
        logits = net(image)
    probs = slide(volume, scale.patch, scale.stride, backbone_forward(net), 2)
    for precision in ("fp32", "tf32", "bf16"):
        other = VNet(filters=scale.filters, precision=precision).build(2).eval()
        other.load_state_dict(state)
        other.to(bench.device)
        with arithmetic(tf32=precision == "tf32" and bench.on_card), torch.no_grad():
            near = other(image.to(bench.device)).cpu()
            found = slide(
                volume.to(bench.device), scale.patch, scale.stride, backbone_forward(other), 2
            ).cpu()
        yield {
            "precision": precision,
            "logits off": f"{float((near - logits).abs().max() / logits.abs().max()):.1e}",
            "probabilities off": f"{float((found - probs).abs().max()):.1e}",
            "labels that differ": f"{float((found.argmax(0) != probs.argmax(0)).float().mean()):.1e}",
        }


def windows(bench: Bench) -> Iterator[Row]:
    """A whole volume by windows, so many at once; the first one's numbers are the measure."""
    scale, first = bench.scale, None
    volume = torch.randn(scale.volume, generator=torch.Generator().manual_seed(2)).to(bench.device)
    precision = "bf16" if bench.on_card else "fp32"
    torch.manual_seed(0)
    net = VNet(filters=scale.filters, precision=precision).build(2).eval().to(bench.device)
    forward = backbone_forward(net)
    for batch in scale.batches:
        bench.clear()
        try:
            found = slide(volume, scale.patch, scale.stride, forward, 2, batch)
            first = found if first is None else first

            def once(batch=batch) -> None:  # type: ignore[no-untyped-def]
                slide(volume, scale.patch, scale.stride, forward, 2, batch)

            off = float((found - first).abs().max())
            row = {"s": round(bench.seconds(once, 1), 3), **bench.gigabytes(), "off": f"{off:.1e}"}
        except Exception as error:  # one row of many says so
            row = {"fault": fault(error)}
        yield {"windows at once": batch, **row}

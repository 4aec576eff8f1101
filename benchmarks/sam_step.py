"""One LoRA fine-tuning step of SAM ViT-B on a 1024 x 1024 canvas, against segment-anything's own modules.

    python benchmarks/sam_step.py              # every variant, each in a process of its own
    python benchmarks/sam_step.py --canvas 512 --repeats 5

The peer is written plainly: segment-anything's image encoder, prompt encoder and mask decoder in fp32,
SAMed's LoRA beside the fused qkv layers, one forward and one backward pass of the loss on logits at canvas
size. Ours is what the finetune stage runs. Weights are random but equal, as is the canvas, so losses can be
compared. Memory is how far the resident set grows in the steps, libraries and model not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

VARIANTS = ("plain fp32", "ours fp32", "ours bf16", "ours bf16 checkpointing")
#: decoder_only: a step that encodes its canvas, and one from the second epoch on, which reads the embedding.
DECODER = ("decoder_only encoding", "decoder_only stored")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canvas", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variant", choices=(*VARIANTS, *DECODER))
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options.canvas, options.repeats)))
        return
    results: dict[str, dict[str, float]] = {}
    for variant in (*VARIANTS, *DECODER):
        command = [sys.executable, __file__, "--variant", variant]
        command += ["--canvas", str(options.canvas), "--repeats", str(options.repeats)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[variant] = found = json.loads(done.stdout.splitlines()[-1])
        base = results[(DECODER if variant in DECODER else VARIANTS)[0]]
        print(
            f"{variant:26s} {found['seconds']:7.2f} s ({base['seconds'] / found['seconds']:.2f} x)   "
            f"{found['megabytes']:7.0f} MB ({found['megabytes'] / base['megabytes']:.0%})   "
            f"loss {found['loss']:.6f}   logits differ by {abs(found['logit'] - base['logit']):.1e}",
            flush=True,
        )


def measure(variant: str, canvas: int, repeats: int) -> dict[str, float]:
    """Seconds of the fastest step, megabytes of its peak, its loss and one logit."""
    import torch

    from sfrbench.stages.finetune.run import step_loss

    make = {"plain": plain_step, "ours": our_step, "decoder_only": decoder_step}[variant.split()[0]]
    step, tuned, model = make(variant, canvas)
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, canvas, canvas, generator=draw)
    target = torch.randint(0, 2, (1, canvas // 8, canvas // 8), generator=draw)
    target = target.repeat_interleave(8, 1).repeat_interleave(8, 2)
    before = peak()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        logits = step(image)
        loss = step_loss(tuned, logits, target)
        loss.backward()
        seconds.append(time.perf_counter() - began)
        for part in model.parameters():
            part.grad = None
    return {
        "seconds": min(seconds),
        "megabytes": peak() - before,
        "loss": float(loss.detach()),
        "logit": float(logits.detach()[0, 1].mean()),
    }


def peak() -> float:
    """Megabytes of the resident set at its largest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def our_step(variant: str, canvas: int) -> tuple[Any, Any, Any]:
    from sfrbench.components.finetune.lora import Lora
    from sfrbench.components.foundation import _build

    tuned = Lora()
    model = _build.vit("b", canvas=canvas, classes=2, precision="bf16" if "bf16" in variant else "fp32")
    fill(model)
    tuned.attach(model)
    encoder: Any = model.image_encoder
    encoder.checkpointing = "checkpointing" in variant
    return model.train(), tuned, model


def decoder_step(variant: str, canvas: int) -> tuple[Any, Any, Any]:
    """decoder_only in fp32, with its encoder in the loop or with an embedding from an earlier step."""
    import tempfile

    import torch
    from safetensors.torch import load_file, save_file

    from sfrbench.catalog.cards import Catalog
    from sfrbench.components.foundation import _build

    tuned: Any = Catalog.read().card("finetune", "decoder_only").component({})
    model = _build.vit("b", canvas=canvas, classes=2, precision="fp32")
    fill(model)
    tuned.attach(model)
    path = Path(tempfile.mkdtemp()) / "view.safetensors"

    def step(image: torch.Tensor) -> torch.Tensor:
        if variant.endswith("stored") and path.is_file():
            return model.decode(load_file(path)["embedding"])
        with torch.no_grad():
            embedding = model.encode(image)
        save_file({"embedding": embedding.contiguous()}, path)
        return model.decode(embedding)

    return step, tuned, model.train()


def fill(model: Any) -> None:
    """Equal weights in both models: by name, so that the order of creation does not matter."""
    import torch

    for name, value in model.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, 0.02, generator=torch.Generator().manual_seed(sum(name.encode())))
        elif name.endswith("bias"):
            value.zero_()


def plain_step(variant: str, canvas: int) -> tuple[Any, Any, Any]:
    """SAM as its authors wrote it, with LoRA as SAMed wrote it: no part of this package's model code."""
    import torch
    from torch import nn

    from sfrbench.components.finetune.lora import Lora
    from sfrbench.components.foundation import _samlib

    class LoraQkv(nn.Module):
        def __init__(self, qkv: nn.Linear, rank: int) -> None:
            super().__init__()
            dim = qkv.in_features
            self.qkv, self.dim = qkv, dim
            self.a_q, self.a_v = (nn.Linear(dim, rank, bias=False) for _ in range(2))
            self.b_q, self.b_v = (nn.Linear(rank, dim, bias=False) for _ in range(2))
            nn.init.zeros_(self.b_q.weight)
            nn.init.zeros_(self.b_v.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            qkv: torch.Tensor = self.qkv(x)
            qkv[..., : self.dim] += self.b_q(self.a_q(x))
            qkv[..., -self.dim :] += self.b_v(self.a_v(x))
            return qkv

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_encoder = _samlib.ImageEncoderViT(
                img_size=canvas, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=14,
                global_attn_indexes=(2, 5, 8, 11),
            )  # fmt: skip
            grid = (canvas // 16, canvas // 16)
            self.prompt_encoder = _samlib.PromptEncoder(
                embed_dim=256, image_embedding_size=grid, input_image_size=(canvas, canvas), mask_in_chans=16
            )
            self.mask_decoder = _samlib.MaskDecoder(
                num_multimask_outputs=1, transformer_dim=256, iou_head_depth=3, iou_head_hidden_dim=256,
                transformer=_samlib.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            )  # fmt: skip

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            embedding = self.image_encoder(image.expand(-1, 3, -1, -1))
            sparse, dense = self.prompt_encoder(points=None, boxes=None, masks=None)
            masks, _ = self.mask_decoder.predict_masks(
                embedding, self.prompt_encoder.get_dense_pe(), sparse, dense
            )
            return torch.as_tensor(masks)

    model = Plain()
    fill(model)
    model.image_encoder.requires_grad_(False)
    for block in model.image_encoder.blocks:
        block.attn.qkv = LoraQkv(block.attn.qkv, 4)
    return model.train(), Lora(), model


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()

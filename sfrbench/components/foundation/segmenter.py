"""A model of the SAM family with a semantic head: K mask tokens, no prompts, all tokens are class logits.

Sources: SAMed (hitachinsk/SAMed) and SFR's released code (ShumengLI/SFR): ``num_multimask_outputs`` is
K - 1, no prompts are given, and every mask token's map is one class's logits (token 0: background).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components._autocast import guard
from sfrbench.components.core import Precision
from sfrbench.components.foundation import _samlib
from sfrbench.components.foundation._likeness import looks_like, misfits, told
from sfrbench.errors import InputError, NotReadyError

#: Column and row of a point, pixels of the canvas, and whether the object is there.
Point = tuple[float, float, bool]
#: Column and row of the first corner of a box, column and row of the last, pixels of the canvas.
Frame = tuple[float, float, float, float]
#: What depends on the number of classes; never taken from a checkpoint.
HEAD = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")


class SamSegmenter(nn.Module):
    """Image encoder, prompt encoder and mask decoder of SAM behind one forward without prompts.

    ``canvas`` is the side of the square input in pixels, ``classes`` is K with background, with ``precision``
    bf16 forward passes are autocast; parameters and results are float32.
    """

    image_encoder: nn.Module
    prompt_encoder: Any  # segment-anything's classes carry no types that a checker could use
    mask_decoder: Any

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        *,
        canvas: int,
        classes: int,
        precision: Precision,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.canvas = canvas
        self.classes = classes
        self.precision = precision
        self.channels_last = channels_last
        #: The checkpoint's position tables, where this canvas needed others; for a method with other tokens.
        self.pretrained_positions: dict[str, Tensor] = {}
        #: Whether each canvas is brought to [0, 1] by its own extremes, see ``spread``.
        self.per_canvas = False
        #: Whether the canvases of a forward are the slices of one volume, as encoder and decoder then expect.
        self.volumetric = False
        guard(self)

    def encode(self, canvases: Tensor) -> Tensor:
        """Canvases (B, 1, I, I), float32, already normalised, to image embeddings (B, C, h, w).

        One channel is repeated for the encoder's three; (B, 3, I, I) goes in as it is.
        """
        image = self.three_channels(canvases)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with self._autocast(canvases):
            embedding: Tensor = self.image_encoder(image)
        return embedding

    def three_channels(self, canvases: Tensor) -> Tensor:
        """Canvases, scaled as the model asks for, as (B, 3, I, I). Raises ``InputError`` for other forms than
        ``encode`` takes."""
        if canvases.ndim != 4 or canvases.shape[1] not in (1, 3) or canvases.shape[2] != canvases.shape[3]:
            raise InputError(f"canvases must be (B, 1, I, I) or (B, 3, I, I), got {tuple(canvases.shape)}")
        return self._scaled(canvases).expand(-1, 3, -1, -1)

    def decode(self, embedding: Tensor) -> Tensor:
        """Image embeddings (B, C, h, w) to low-resolution logits (B, K, 4h, 4w), float32."""
        size = (embedding.shape[2], embedding.shape[3])
        no_prompt = embedding.new_zeros((1, 0, embedding.shape[1]), dtype=torch.float32)
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(-1, -1, *size)
        with self._autocast(embedding):
            # One set of tokens broadcasts against all images inside the decoder. ``forward`` of the
            # decoder would drop token 0, or keep only it.
            logits, _ = self.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=self._positions(size),
                sparse_prompt_embeddings=no_prompt,
                dense_prompt_embeddings=dense,
            )
        result: Tensor = logits.float()
        return result

    def ask(
        self, embedding: Tensor, points: Sequence[Point], frame: Frame | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One image embedding (1, C, h, w) and prompts to small logits (1, K, 4h, 4w) of all mask tokens, and
        the IoU that the model expects of each, (1, K); both float32.

        Points are (column, row, inside), ``frame`` a box (column, row, column, row), in pixels of the canvas;
        ``mask`` are small logits (1, 1, 4h, 4w) of an earlier answer. SAM's own head has K = 4: the first
        token is for prompts that leave no doubt, the others for a single click.
        """
        device, said = embedding.device, None
        if points:
            at = torch.tensor([[point[:2] for point in points]], dtype=torch.float32)
            inside = torch.tensor([[int(point[2]) for point in points]], dtype=torch.int32)
            said = at.to(device), inside.to(device)
        box = None if frame is None else torch.tensor([frame], dtype=torch.float32).to(device)
        # Places lose digits in bf16: prompts are encoded in float32.
        sparse, dense = self.prompt_encoder(points=said, boxes=box, masks=mask)
        with self._autocast(embedding):
            logits, quality = self.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=self._positions((embedding.shape[2], embedding.shape[3])),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return logits.float(), quality.float()

    def forward(self, canvases: Tensor) -> Tensor:
        """Canvases as ``encode`` takes them to low-resolution logits (B, K, h, w).

        Of a volumetric model B is the number of slices: the decoder sees them all, and the canvases too.
        """
        features = self.encode(canvases)
        if not self.volumetric:
            return self.decode(features)
        with self._autocast(canvases):
            logits: Tensor = self.mask_decoder(features, self._scaled(canvases))
        return logits.float()

    def segment(self, canvases: Tensor) -> Tensor:
        """Canvases (B, 1 or 3, I, I) to logits (B, K, I, I), bilinearly upsampled; softmax over K follows."""
        return enlarge(self(canvases), canvases.shape[-1])

    def _scaled(self, canvases: Tensor) -> Tensor:
        return spread(canvases) if self.per_canvas else canvases

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """Position encoding (1, C, h, w) of a token grid; random Fourier features, kept in float32."""
        layer = self.prompt_encoder.pe_layer
        with torch.autocast(layer.positional_encoding_gaussian_matrix.device.type, enabled=False):
            positions: Tensor = layer(size).unsqueeze(0)
        return positions

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def spread(canvases: Tensor) -> Tensor:
    """Each canvas of (B, C, I, I) to [0, 1] by its darkest and its brightest pixel; 0 and less is padding,
    which does not count and becomes 0.

    As MedSAM scales each image that it is given (bowang-lab/MedSAM, ``MedSAM_Inference.py``); of padding its
    code knows nothing.
    """
    inside, axes = canvases > 0, (1, 2, 3)
    low = canvases.masked_fill(~inside, torch.inf).amin(axes, keepdim=True)
    high = canvases.amax(axes, keepdim=True)
    return torch.where(inside, ((canvases - low) / (high - low).clamp(min=1e-8)).clamp(0, 1), 0)


def enlarge(logits: Tensor, side: int) -> Tensor:
    """Low-resolution logits (B, K, h, w) bilinearly to (B, K, side, side)."""
    if logits.shape[-2:] == (side, side):
        return logits
    return F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


def prompt_and_decoder(
    *, classes: int, canvas: int, stride: int, dim: int = 256, heads: int = 8, mlp_dim: int = 2048
) -> tuple[nn.Module, nn.Module]:
    """SAM's prompt encoder and mask decoder for K = ``classes`` tokens; ``stride`` is pixels per token."""
    grid = (canvas // stride, canvas // stride)
    prompt_encoder: nn.Module = _samlib.PromptEncoder(
        embed_dim=dim, image_embedding_size=grid, input_image_size=(canvas, canvas), mask_in_chans=16
    )
    mask_decoder: nn.Module = _samlib.MaskDecoder(
        num_multimask_outputs=classes - 1,
        transformer=_samlib.TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=mlp_dim, num_heads=heads),
        transformer_dim=dim,
        iou_head_depth=3,
        iou_head_hidden_dim=dim,
    )
    return prompt_encoder, mask_decoder


def reset_head(decoder: nn.Module) -> None:
    """Draw mask tokens, hypernetworks and IoU head anew from torch's global RNG.

    Always, even where a checkpoint's shapes fit: with K = 4 the authors' code silently keeps SAM's own.
    """
    for name in HEAD:
        for module in decoder.get_submodule(name).modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.reset_parameters()


def read_state(path: Path, inside: str = "") -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file, memory-mapped, or those that it holds under the name ``inside``.

    Raises ``NotReadyError`` on an unreadable file.
    """
    hint = "'sfrbench weights check' verifies the files"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise NotReadyError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    except Exception as error:  # torch raises pickle, zip and runtime errors of its own
        reason = str(error).splitlines()[0][:120]
        raise NotReadyError(f"is no PyTorch weight file: {reason}", where=str(path), hint=hint) from error
    if inside:
        state = state.get(inside) if isinstance(state, Mapping) else None
    plain = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    if not plain:
        named = f" under '{inside}'" if inside else ""
        raise NotReadyError(f"holds no plain dictionary of tensors{named}", where=str(path), hint=hint)
    return dict(state)


def load_pretrained(
    model: SamSegmenter, state: Mapping[str, Tensor], where: str, but: Sequence[str] = HEAD
) -> None:
    """Load everything ``but`` the head, strictly. Raises ``NotReadyError`` naming every key at fault."""
    prefixes = tuple(f"mask_decoder.{name}." for name in but)
    given = {name: value for name, value in state.items() if not name.startswith(prefixes)}
    wanted = {name: value for name, value in model.state_dict().items() if not name.startswith(prefixes)}
    expect_fit(given, wanted, where, looks_like(state))
    model.load_state_dict(given, strict=False)  # only ``but`` is left out, as checked above


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load everything, strictly. Raises ``NotReadyError`` naming every key at fault."""
    expect_fit(state, model.state_dict(), where)
    model.load_state_dict(state)


def expect_fit(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, like: str = "") -> None:
    """Raises ``NotReadyError`` where ``given`` tensors are not those that a model wants; ``like``: what they
    look like."""
    if faults := misfits(given, wanted):
        what = f"does not fit this model: {told(faults)}{f'; it looks like {like}' if like else ''}"
        raise NotReadyError(what, where=where, hint="is it the right weight file for this card?")


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies (CPU) of exactly the parameters that train, by name."""
    return {
        name: value.detach().cpu().clone() for name, value in model.named_parameters() if value.requires_grad
    }


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put ``trained_state`` back into a model with the same adapters, strictly; raises ``InputError``."""
    wanted = {name: value for name, value in model.named_parameters() if value.requires_grad}
    faults = misfits(state, wanted)
    if faults:
        raise InputError(f"trained parameters do not fit the model: {told(faults)}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(state[name])

"""Cross-Consistency Training (Ouali et al., CVPR 2020), in 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.backbone.interface import Passed
    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Cct(Consistency):
    """Three further decoders read perturbed encodings and must agree with the student's.

    L_method = lambda_cons * ramp(t) * mean_a mean (softmax(z(u)) - softmax(z_a(u)))^2 over the decoders a,
    the inner mean over K too; the gradient goes into both sides. L_sup, and with SFR L_pl, is the mean over
    all four decoders. Every map of the encoder, skips included, is perturbed: by noise for the first of the
    three, by dropout for the second, by removal of the strongest positions for the third. Source:
    HiLab-git/SSL4MIS, ``train_cross_consistency_training_2D.py`` and ``UNet_CCT``, which are 2D. The port to
    3D is ours: the decoders are those of the 3D backbone.
    """

    combine: ClassVar[Literal["sum", "mean"]] = "mean"

    noise_spread: float = Field(0.3, ge=0, le=1, description="features times 1 + U(-s, s)")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of feature values dropped")
    drop_from: float = Field(0.7, ge=0, le=1, description="least share of the maximum that is removed")
    drop_to: float = Field(0.9, ge=0, le=1, description="largest share of the maximum that is removed")

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts", "decoder"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone.interface import ALONE, in_parts

        decoders = {name: make() for name in ("noise", "dropout", "feature_drop")}
        for decoder in decoders.values():
            in_parts(decoder, ALONE).strip_encoder()
        return decoders

    def outputs(self, step: Step) -> list[torch.Tensor]:
        return [step.logits, *(one.logits for one in self._auxiliary(step))]

    def coarser(self, step: Step) -> list[tuple[torch.Tensor, ...]]:
        return [step.coarser, *(one.coarser for one in self._auxiliary(step))]

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        return Passes(decoded=3 * (labelled + unlabelled), parameters=3 * network.decoder_parameters)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        main = step.logits_u.softmax(1)
        others = [one.logits[len(step.logits_l) :].softmax(1) for one in self._auxiliary(step)]
        distance = torch.stack([(main - other).square().mean() for other in others]).mean()
        step.values["consistency"] = distance
        return self.weight(step) * distance

    def _auxiliary(self, step: Step) -> list[Passed]:
        """What the three further decoders give, computed once in a step."""
        return step.once("auxiliary", lambda: [self._decoded(step, name) for name in step.networks])

    def _decoded(self, step: Step, name: str) -> Passed:
        from sfrbench.components.backbone.interface import decoded

        maps = tuple(self._perturbed(name, part, step.rng) for part in step.maps)
        return decoded(step.networks[name], maps).outputs()

    def _perturbed(self, name: str, maps: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        from sfrbench.components.ssl import _perturb

        if name == "noise":
            return _perturb.multiply_noise(maps, rng, self.noise_spread)
        if name == "dropout":
            return _perturb.drop_values(maps, rng, self.dropout)
        return _perturb.drop_strongest(maps, rng, self.drop_from, self.drop_to)

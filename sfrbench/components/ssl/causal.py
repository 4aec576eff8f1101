"""CauSSL (Miao et al., ICCV 2023) on mutual consistency, and what its two forms share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from sfrbench.components.backbone.interface import Passed
    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Independent(Consistency):
    """Networks that must not follow linearly from each other: a term with an inner game.

    The term is the sum over networks of the mean over layers and rows of cos^2(w, A w'). A row w holds a
    kernel's weights of one output channel, w' are the rows of the other networks in the same layer, and A
    (``Independence``) is trained by Adam for the largest value: ``game_steps`` steps at every multiple of
    ``game_every`` after step ``game_after``. From the first game on, the networks descend the term.
    Dice of L_sup is the foreground's, as in the source.
    """

    sup_dice: Literal["all", "foreground"] = Field(
        "foreground", description="classes that L_sup's Dice averages"
    )
    w_independence: float = Field(3.0, ge=0, le=100, description="weight of the independence term")
    game_after: int = Field(40, ge=0, description="no game up to this step")
    game_every: int = Field(60, ge=1, description="a game at every multiple of this")
    game_steps: int = Field(60, ge=1, le=1000, description="Adam's steps in a game")
    game_lr: float = Field(0.02, gt=0, le=1, description="Adam's learning rate in a game")
    independence_into: Literal["own", "first"] = Field(
        "own", description="every network descends its own part of the term, or the deployed one alone"
    )

    def independence(self, step: Step, networks: Sequence[nn.Module]) -> torch.Tensor:
        """``w_independence`` times the term; 0 before the first game."""
        from sfrbench.components.ssl._independence import Independence, shared_kernels

        first = (self.game_after // self.game_every + 1) * self.game_every
        if step.iteration < first:
            return step.images.new_zeros(())
        game = step.networks["independence"]
        assert isinstance(game, Independence)
        kernels = shared_kernels(networks)
        if step.iteration % self.game_every == 0:
            game.ascend(kernels, self.game_steps, self.game_lr)
        value: torch.Tensor = game(kernels, self.independence_into)
        step.values["independence"] = value
        return self.w_independence * value


class Causal(Independent):
    """One encoder, three decoders that differ in how they upsample, and independence of the decoders.

    L_method = lambda_cons * ramp(t) * sum_{i != j} mean (p_i(u) - s_j(u))^2 + w_independence * term, with p_i
    the softmax of decoder i, s_j = p_j^(1/T) / sum p_j^(1/T) without gradient, and the mean over K too. L_sup
    (with SFR, L_pl too) is summed over the decoders. Decoder 1 is the student's (transposed convolutions) and
    is deployed; the others have 1x1x1 convolutions with trilinear and with nearest upsampling instead. The
    term compares the decoders' and the output convolutions, not those in the upsampling.

    Source: JuzhengMiao/CauSSL, ``train_CT_MCCauSSL.py`` (Pancreas-CT), whose losses, weights and ramp are the
    defaults; those for LA and BraTS are unreleased. In the released loss functions the parts of decoders 2
    and 3 take every kernel detached, so that they have a value and no gradient, and decoder 1 alone is driven
    from the others ("first", in card ``causal_source``); "own" is the paper's game, and what the source does
    on CPS. Ours: on a backbone that learns nothing in its upsampling (3D U-Net), three decoders that differ
    in their initialisation only.
    """

    version: ClassVar[int] = 3  # small maps are convolved in float32 before upsampling too

    temperature: float = Field(0.5, gt=0, le=10, description="T of the sharpened targets")

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts", "decoder", "upsampling"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.ssl._independence import Independence, shared_kernels, upsampling_decoder

        networks = {mode: upsampling_decoder(make(), mode) for mode in ("trilinear", "nearest")}
        kernels = shared_kernels([make.student, *networks.values()])
        return {**networks, "independence": Independence(kernels)}

    def outputs(self, step: Step) -> list[torch.Tensor]:
        return [step.logits, *(one.logits for one in self._auxiliary(step))]

    def coarser(self, step: Step) -> list[tuple[torch.Tensor, ...]]:
        return [step.coarser, *(one.coarser for one in self._auxiliary(step))]

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        """Without the inner game, a few products of kernels with each other."""
        from sfrbench.components.costs.parts import Passes

        # 1 x 1 x 1 convolutions of the coarser maps stand for transposed ones of 2 x 2 x 2
        seen, fewer = labelled + unlabelled, network.up_parameters * 7 // 8
        less = network.up * (-7 / 8 * 2 * seen)
        return Passes(decoded=2 * seen, more=less, parameters=2 * (network.decoder_parameters - fewer))

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        logits = [part[len(step.logits_l) :] for part in self.outputs(step)]
        targets = [(part / self.temperature).softmax(1).detach() for part in logits]
        distances = [
            (part.softmax(1) - target).square().mean()
            for i, part in enumerate(logits)
            for j, target in enumerate(targets)
            if i != j
        ]
        distance = torch.stack(distances).sum()
        step.values["consistency"] = distance
        decoders = [step.student, *self._decoders(step)]
        return self.weight(step) * distance + self.independence(step, decoders)

    def _decoders(self, step: Step) -> list[Any]:
        """Decoders 2 and 3: no networks in parts, since they cannot encode."""
        return [step.networks["trilinear"], step.networks["nearest"]]

    def _auxiliary(self, step: Step) -> list[Passed]:
        """What decoders 2 and 3 give, computed once in a step."""
        from sfrbench.components.backbone.interface import decoded

        decoders = self._decoders(step)
        return step.once("auxiliary", lambda: [decoded(one, step.maps).outputs() for one in decoders])

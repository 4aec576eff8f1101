"""The interface of semi-supervised methods: what a method owns, and what the training loop does for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.core import Component, Optim, Part

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Ssl(Component):
    """A semi-supervised method. It owns its unsupervised loss and extra networks, nothing else. A subclass
    gives ``loss``, ``networks`` and ``outputs`` where it has networks of its own, and says what it uses.

    The loop takes L_sup and, with SFR, L_pl on each of ``outputs`` and adds ``loss``; it owns schedule, EMA,
    checkpoints and logging. L_sup is the method's own, as its source has it. L_pl is SFR's, the same for
    every method: half cross-entropy, half Dice over all classes (eq. 7), with an eps of 1e-5 (SFR's code:
    1e-10). Losses, weights and ramps of a class are its source's; length, batch, optimiser and schedule are
    the same for all, and those of the source stand in a card ``<name>_source``, where they differ.
    """

    kind: ClassVar[str] = "ssl"

    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_every"})
    later_fields: ClassVar[Mapping[str, Any]] = {
        "sup_ce": 0.5,
        "sup_dice": "all",
        "sup_dice_square": True,
        "sup_dice_eps": 1e-5,
        "sup_dice_per": "batch",
        "sup_dice_weight": None,
        "foreground": 0.0,
        "augment": "turns",
    }
    #: Fields that matter only with SFR's pseudo-labels.
    pseudo_fields: ClassVar[frozenset[str]] = frozenset({"w_pl", "pl_ce", "pseudo_labels"})
    #: Whether there is an average of the student to learn from, ``step.teacher``.
    needs_teacher: ClassVar[bool] = False
    #: Whether unlabelled patches are drawn; else ``step.images_u`` has some with SFR's pseudo-labels only.
    uses_unlabelled: ClassVar[bool] = True
    #: Whether ``loss`` itself depends on the labels of labelled patches; L_sup, the loop's, always does.
    uses_labels: ClassVar[bool] = False
    #: Patches in the loop's own forward pass of the student. A method that trains on mixed patches leaves out
    #: the plain ones; SFR's pseudo-labels bring the unlabelled ones back, since L_pl is taken on them.
    plain: ClassVar[Literal["all", "labelled", "none"]] = "all"
    #: L_sup and L_pl over several outputs: the sum for networks of their own, the mean for heads of one.
    combine: ClassVar[Literal["sum", "mean"]] = "sum"

    optim: Optim = Optim()
    steps: int = Field(6000, ge=1, le=1_000_000)
    batch_labeled: int = Field(2, ge=1, description="labelled patches per step")
    batch_unlabeled: int = Field(2, ge=1, description="unlabelled patches per step")
    ema: float = Field(0.99, ge=0, lt=1, description="teacher decay; min(1 - 1/(t+1), ema) at step t")
    sup_ce: float = Field(0.5, ge=0, le=1, description="share of cross-entropy in L_sup; Dice: rest")
    sup_dice_weight: float | None = Field(
        None, ge=0, le=10, description="weight of Dice in L_sup; none: what 'sup_ce' leaves of 1"
    )
    sup_dice: Literal["all", "foreground"] = Field("all", description="classes that L_sup's Dice averages")
    sup_dice_square: bool = Field(True, description="squares below the line of L_sup's Dice")
    sup_dice_eps: float = Field(1e-5, gt=0, le=1, description="eps of L_sup's Dice")
    sup_dice_per: Literal["batch", "sample"] = Field(
        "batch", description="L_sup's Dice of all patches of a batch as one, or the mean of each one's"
    )
    pl_ce: float = Field(0.5, ge=0, le=1, description="share of cross-entropy in L_pl, SFR only; Dice: rest")
    w_pl: float = Field(1.0, ge=0, le=10, description="weight of the pseudo-label loss (eq. 7), SFR only")
    pseudo_labels: Literal["hard", "soft"] = Field("hard", description="argmax or probabilities, SFR only")
    foreground: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of labelled patches that are centred on a voxel of a class drawn first; of B in a "
        "step the last B - round(B (1 - share)): at nnU-Net's 0.33 one of 2, none of 1",
    )
    augment: Literal["turns", "nnunet"] = Field(
        "turns",
        description="of patches: the quarter turns and flips of 'dataset.rot_flip', or nnU-Net's rotation, "
        "scaling, noise, blur, contrast, gamma and mirroring (the last where rot_flip allows it)",
    )
    intensity_augment: bool = Field(
        False, description="random gain, offset and gamma of each patch (ours); 'nnunet' has its own instead"
    )
    val_every: int = Field(200, ge=1, description="steps between validations, where there are cases for it")
    checkpoint_every: int = Field(500, ge=1, description="steps between resumable checkpoints")

    def key_settings(self) -> dict[str, Any]:
        """The fields as for any component; ``pl_ce`` only where it differs from ``sup_ce``, which once meant
        both, and ``intensity_augment`` only where it has an effect."""
        settings = super().key_settings()
        if self.pl_ce == self.sup_ce:
            del settings["pl_ce"]
        if self.augment == "nnunet":
            del settings["intensity_augment"]
        return settings

    @property
    def dice_weight(self) -> float:
        """Of Dice in L_sup, beside ``sup_ce``."""
        return 1 - self.sup_ce if self.sup_dice_weight is None else self.sup_dice_weight

    @property
    def relabels(self) -> int:
        """Further trainings from scratch, each on labels that the model before gave to unlabelled cases."""
        return 0

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        """Networks of the method's own, by name; their states are part of every checkpoint.

        Parameters that require gradients are trained by the loop's optimiser, together with the student's; a
        module that the method updates by itself (a memory, an inner game) comes with ``requires_grad`` off.
        None of them is part of the model that is deployed.
        """
        return {}

    def asks(self) -> frozenset[Part]:
        """What it needs of the backbone's network beside logits."""
        return frozenset()

    def outputs(self, step: Step) -> list[torch.Tensor]:
        """Logits of the plain patches that L_sup and L_pl are taken on, each like ``step.logits``."""
        return [step.logits]

    def coarser(self, step: Step) -> list[tuple[torch.Tensor, ...]]:
        """Beside each of ``outputs`` its network's deep supervision, which L_sup and L_pl are taken on, too;
        what is missing at the end has none. L_method looks at the finest logits alone."""
        return [step.coarser]

    def supervised_weight(self, step: Step) -> float:
        """Factor of L_sup; not 1 where the source averages it with supervised terms that ``loss`` adds."""
        return 1.0

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        """What a step of so many patches takes beside the loop's own pass; none: not stated."""
        return None

    def known(self, labels: NDArray[np.uint8], classes: int) -> Mapping[str, NDArray[np.float32]]:
        """What the loss needs of the labels (B_l, X, Y, Z) and the host has to work out: ``Step.known``.

        Called ahead of the step, in a thread of its own where there is a GPU."""
        return {}

    def loss(self, step: Step) -> torch.Tensor:
        """L_method of one step, a scalar, its weight included. Noise is drawn from ``step.rng``; what is put
        into ``step.values`` stands in the history of the training."""
        raise NotImplementedError

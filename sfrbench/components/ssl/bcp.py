"""Bidirectional Copy-Paste (Bai et al., CVPR 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Ssl
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import Step


class Bcp(Ssl):
    """A cuboid of one patch pasted into another, both ways between labelled and unlabelled patches.

    For the first ``pretrain`` of the steps L_method = R(a | b, y_a | y_b), where a | b is a outside a random
    cuboid and b inside it, a and b are the two halves of the labelled patches, and R = sup_ce CE +
    (1 - sup_ce) Dice, or ``sup_dice_weight`` of it. Then the teacher starts from the student, and with
    pseudo-labels z of u and v, the halves of the unlabelled patches,

        L_method = R_out(a | u, y_a) + w R_in(a | u, z_u) + w R_out(v | b, z_v) + R_in(v | b, y_b),

    where R_out and R_in look outside and inside the cuboid only, and w is ``u_weight``. The cuboid has
    ``cut`` of each side. z is the teacher's argmax, of each class its largest 26-connected component. Dice
    here has p + y below its line, and is the mean over patches and classes, background included, with an eps
    of 1e-5. Plain patches are not trained on, but for L_pl, so that the fields of L_sup's Dice say nothing.

    Source: DeepMed-Lab-ECNU/BCP, ``LA_BCP_train.py``: 2000 steps on labelled patches, then 15000 with a new
    optimiser, whose rate drops every 2500, and 4 + 4 patches a step (card ``bcp_source``). It takes the best
    models on the test list from both phases, here each phase ends with its last step and the optimiser goes
    on. Ours: components of each class for K > 2, as the source's 2D script has them; of an odd number of
    patches the middle one is in both halves, so that one labelled patch is pre-trained on as it is.
    """

    needs_teacher: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    plain: ClassVar[Literal["all", "labelled", "none"]] = "none"

    pretrain: float = Field(
        2 / 17, ge=0, le=1, description="share of the steps that see labelled patches only"
    )
    cut: float = Field(2 / 3, gt=0, lt=1, description="sides of the cuboid, as a share of the patch's")
    u_weight: float = Field(0.5, ge=0, le=10, description="weight of voxels with pseudo-labels")
    largest_component: bool = Field(True, description="of pseudo-labels keep each class's largest component")

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        first, mixed = -(-labelled // 2), 2 * -(-max(labelled, unlabelled) // 2)
        later = 1 - self.pretrain
        return Passes(trained=self.pretrain * first + later * mixed, free=later * unlabelled)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        outside = self.outside(step)
        start = round(self.pretrain * step.steps)
        if step.iteration < start:
            (a, b), (y_a, y_b) = (halves(part, len(step.labels)) for part in (step.images_l, step.labels))
            mixed, labels = torch.where(outside, a, b), torch.where(outside, y_a, y_b)
            return self.region(step.student(mixed), labels, torch.ones_like(outside))
        if step.teacher is None:
            raise ValueError("BCP was called without a teacher")
        if step.iteration == start:
            step.teacher.load_state_dict(step.student.state_dict())
        labels_u = self.pseudo_labels_of(step.teacher, step.images_u)
        count = max(len(step.labels), len(labels_u))
        a, b = halves(step.images_l, count)
        y_a, y_b = halves(step.labels, count)
        u, v = halves(step.images_u, count)
        z_u, z_v = halves(labels_u, count)
        logits = step.student(torch.where(outside, a, u))
        other = step.student(torch.where(outside, v, b))
        true = self.region(logits, y_a, outside) + self.region(other, y_b, ~outside)
        pseudo = self.region(logits, z_u, ~outside) + self.region(other, z_v, outside)
        step.values.update(on_labels=true, on_pseudo_labels=pseudo)
        return true + self.u_weight * pseudo

    def outside(self, step: Step) -> torch.Tensor:
        """(X, Y, Z) bool, false in the cuboid; as in the source, it never touches the far sides."""
        import torch

        sides = step.images.shape[2:]
        mask = torch.ones(sides, dtype=torch.bool, device=step.images.device)
        box = []
        for side in sides:
            length = int(side * self.cut)
            first = int(torch.randint(side - length, (), generator=step.host_rng))
            box.append(slice(first, first + length))
        mask[tuple(box)] = False
        return mask

    def region(self, logits: torch.Tensor, labels: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """CE and Dice of ``logits`` (B, K, X, Y, Z) and ``labels`` (B, X, Y, Z) in ``where`` (X, Y, Z)."""
        from torch.nn import functional

        from sfrbench.maths.losses import EPS

        mask = where.to(logits.dtype)
        ce = (functional.cross_entropy(logits, labels, reduction="none") * mask).sum()
        ce = ce / (mask.sum() * len(labels)).clamp(min=1)
        truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
        probs = logits.softmax(1) * mask
        both, sizes = (probs * truth).sum((2, 3, 4)), (probs + truth * mask).sum((2, 3, 4))
        dice = 1 - ((2 * both + EPS) / (sizes + EPS)).mean()
        return self.sup_ce * ce + self.dice_weight * dice

    def pseudo_labels_of(self, teacher: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(B_u, X, Y, Z) int64; the teacher sees one half after the other, which batch norm can tell."""
        import torch

        with torch.no_grad():
            labels = torch.cat([highest(teacher(part)) for part in images.chunk(2)])
        return largest_parts(labels) if self.largest_component else labels


def largest_parts(labels: torch.Tensor) -> torch.Tensor:
    """Of each class in each of the patches (B, X, Y, Z), the largest component; int64, on their device."""
    import numpy as np
    import torch

    from sfrbench.maths.components import largest_component

    found = labels.to(torch.uint8).cpu().numpy()
    kept = np.zeros_like(found)
    for volume, into in zip(found, kept, strict=True):
        for label in range(1, int(volume.max()) + 1):
            np.copyto(into, label, where=largest_component(volume == label))
    return torch.from_numpy(kept).to(labels.device).long()


def halves(patches: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last ceil(count / 2) of ``count`` patches; repeated where there are fewer."""
    import torch

    index = torch.arange(count, device=patches.device) % len(patches)
    half = (count + 1) // 2
    return patches[index[:half]], patches[index[-half:]]

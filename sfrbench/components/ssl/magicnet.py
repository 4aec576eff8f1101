"""MagicNet (Chen et al., CVPR 2023): learning from cubes that change places."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from sfrbench.components.base import Backbone, Component, Dataset
from sfrbench.components.ssl.consistency import NoisyConsistency
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class MagicNet(NoisyConsistency):
    """Mean Teacher on patches whose cubes were exchanged between images, and on cubes seen alone.

    L = (CE + Dice + Dice_cross + Dice_local) / 4 + w_location L_loc + lambda_cons ramp(t) Dice(q_u, y_u), of
    which the loop owns CE and the first Dice (``supervised_weight``).

    * Cross-image: at every place of the grid the cubes of all patches of the batch are permuted. The features
      of the mixed patches go back to where they came from, and the output convolution makes q of them.
    * Within-image: each cube is encoded alone. A head, which is not part of the model, says from the
      bottleneck where the cube was (L_loc, the mean over all patches). The cubes' features, put together,
      give Dice_local.
    * y_u is the argmax of the teacher's logits T on noisy patches or, with ``blend``, of (1 - o) T + o S. S
      are the student's logits from cubes, o is the frequency of the class that the teacher predicts at a
      voxel, divided by that of the most frequent class, in the last ``blend_every`` steps' pseudo-labels.

    Source: DeepMed-Lab-ECNU/MagicNet, ``train_main_btcv.py`` (the defaults; its length and ramp are in card
    ``magicnet_source``) and ``train_main_mact.py`` (``magicnet_mact``). Every Dice of it is over all classes,
    with an eps of 1e-10; here they follow the fields of L_sup's. Ours: the cubes of the batch in one forward
    pass (the same without batch norm); and that every decoded cube returns to its own place: the released
    ``unmix_tensor`` reads cubes in another order than ``get_patch_list`` writes them, which swaps their x and
    z.
    """

    version: ClassVar[int] = 2

    needs_teacher: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    plain: ClassVar[Literal["all", "labelled", "none"]] = "labelled"

    sup_dice_eps: float = Field(1e-10, gt=0, le=1, description="eps of L_sup's Dice")
    cubes_per_side: tuple[int, int, int] = Field(
        (3, 3, 3), description="cubes along x, y and z that a patch is cut into"
    )
    w_location: float = Field(0.1, ge=0, le=10, description="weight of the location loss")
    local_from: Literal["start", "full_weight"] = Field(
        "start", description="Dice_local from the start, or from the end of the ramp on"
    )
    blend: bool = Field(True, description="blend the student's predictions from cubes into pseudo-labels")
    blend_after: int = Field(100, ge=0, description="blending starts after this step")
    blend_every: int = Field(20, ge=1, description="steps between refreshes of the class frequencies")
    blend_temperature: float = Field(1.0, gt=0, le=100, description="frequencies to the power of 1 over this")

    @field_validator("cubes_per_side")
    @classmethod
    def _two_cubes(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1 or prod(value) < 2:
            raise ValueError(f"two cubes or more are needed, got {list(value)} along x, y, z")
        return value

    def cube(self, patch: tuple[int, int, int]) -> tuple[int, int, int]:
        """Sides of a cube, voxels."""
        x, y, z = (side // count for side, count in zip(patch, self.cubes_per_side, strict=True))
        return x, y, z

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Refuses a patch that does not divide, and cubes that the backbone would refuse as patches."""
        dataset, backbone = cell.get("dataset"), cell.get("backbone")
        if not (isinstance(dataset, Dataset) and isinstance(backbone, Backbone)):
            return []
        patch, grid = dataset.patch, self.cubes_per_side
        options = [
            [n for n in range(1, side // by + 1) if side % (n * by) == 0]
            for side, by in zip(patch, backbone.multiples, strict=True)
        ]
        advice = f"ssl.cubes_per_side can have {', '.join(map(str, options))} along x, y, z"
        if any(side % count for side, count in zip(patch, grid, strict=True)):
            return [f"a patch of {list(patch)} voxels does not divide into {list(grid)} cubes: {advice}"]
        cube = self.cube(patch)
        smaller = dataset.model_copy(update={"patch": cube})
        faults = backbone.conflicts({**cell, "dataset": smaller})
        return [
            f"cubes of {list(cube)} voxels do not fit the backbone ({fault}): {advice}" for fault in faults
        ]

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone._vnet_magic import LocationHead
        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl._cubes import ClassCounts

        channels, grid = in_parts(make.student).bottleneck_channels, self.cubes_per_side
        location = LocationHead(channels, self.cube(make.patch), prod(grid), make.multiples)
        return {"location": location, **({"counts": ClassCounts(make.classes)} if self.blend else {})}

    def has_local(self, step: Step) -> bool:
        """Whether this step has Dice_local."""
        return self.local_from == "start" or step.iteration // self.ramp_unit >= self.ramp_length

    def supervised_weight(self, step: Step) -> float:
        """L_sup is half of CE + Dice; the source takes the mean of three or four terms."""
        return 2 / (3 + self.has_local(step))

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes, linear

        seen, cubes = labelled + unlabelled, prod(self.cubes_per_side)
        full = min(self.ramp_length * self.ramp_unit / self.steps, 1.0)
        inside = network.bottleneck * prod(
            -(-side // by) for side, by in zip(self.cube(network.patch), network.multiples, strict=True)
        )
        local = 1.0 if self.local_from == "start" else 1.0 - full
        blended = max(1 - self.blend_after / self.steps, 0.0) if self.blend else 0.0
        return Passes(
            trained=seen,
            encoded=seen,
            decoded=local * labelled,
            free=unlabelled,
            decoded_free=blended * unlabelled,
            more=linear(seen * cubes, inside, 4096) + linear(seen * cubes, 4096, cubes),
            parameters=inside * 4096 + 3 * 4096 + 4096 * cubes + cubes,
        )

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl._cubes import cut
        from sfrbench.components.ssl._supervised import dice_form
        from sfrbench.maths.losses import dice

        labelled = step.labels.shape[0]
        cross = self._cross_image(step).softmax(1)
        cubes = cut(step.images, self.cubes_per_side)
        maps = in_parts(step.student).encode(cubes.flatten(0, 1))
        form = dice_form(self)
        supervised = [dice(cross[:labelled], step.labels, form)]
        if self.has_local(step):
            seen = tuple(part[: labelled * cubes.shape[1]] for part in maps)
            supervised.append(dice(self._recovered(step, seen).softmax(1), step.labels, form))
        location = self._location(step, maps[-1])
        consistency = dice(cross[labelled:], self._pseudo_labels(step, maps), form)
        step.values.update(location=location, consistency=consistency)
        terms = torch.stack(supervised).sum() * self.supervised_weight(step) / 2
        return terms + self.w_location * location + self.weight(step) * consistency

    def _cross_image(self, step: Step) -> torch.Tensor:
        """(B, K, X, Y, Z) logits of all patches, from features of patches with exchanged cubes."""
        import torch

        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl._cubes import exchange

        student = in_parts(step.student)
        images, grid = step.images, self.cubes_per_side
        draws = torch.rand((len(images), prod(grid)), generator=step.rng, device=images.device)
        order = draws.argsort(0)
        mixed = student.features(exchange(images, order, grid))
        logits: torch.Tensor = student.head(student.drop(exchange(mixed, order.argsort(0), grid)))
        return logits

    def _recovered(self, step: Step, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """(B, K, X, Y, Z) logits of patches, each cube decoded alone from ``maps`` of (B N, ...)."""
        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl._cubes import join

        student = in_parts(step.student)
        features = student.decode(maps)
        cubes = features.reshape(-1, prod(self.cubes_per_side), *features.shape[1:])
        logits: torch.Tensor = student.head(student.drop(join(cubes, self.cubes_per_side)))
        return logits

    def _location(self, step: Step, bottleneck: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the place of each cube; the head's batch norm sees the cubes of one patch."""
        import torch
        from torch.nn import functional

        head, places = step.networks["location"], prod(self.cubes_per_side)
        truth = torch.arange(places, device=bottleneck.device)
        losses = [functional.cross_entropy(head(part), truth) for part in torch.split(bottleneck, places)]
        return torch.stack(losses).mean()

    def _pseudo_labels(self, step: Step, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """(B_u, X, Y, Z) int64: the teacher's, blended with the student's from the cubes in ``maps``."""
        import torch

        from sfrbench.components.ssl._cubes import ClassCounts

        if step.teacher is None:
            raise ValueError("MagicNet was called without a teacher")
        with torch.no_grad():
            logits: torch.Tensor = step.teacher(self.noisy(step.images_u, step.rng))
            counts = step.networks.get("counts")
            if not isinstance(counts, ClassCounts):
                return highest(logits)
            if step.iteration > self.blend_after:
                first = step.labels.shape[0] * prod(self.cubes_per_side)
                own = self._recovered(step, tuple(part[first:] for part in maps))
                share = counts.share(self.blend_temperature)[highest(logits)].unsqueeze(1)
                logits = logits.lerp(own, share)
            labels = highest(logits)
            counts.add(labels, refresh=step.iteration % self.blend_every == 0)
        return labels

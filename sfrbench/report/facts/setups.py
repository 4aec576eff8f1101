"""How the cells of each arm are made, in the words of the paper's tables, to be compared with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import (
    Dataset,
    Finetune,
    Foundation,
    Optim,
    Prompter,
    Protocol,
    Selector,
    Ssl,
    Stitch,
)
from sfrbench.files.units import counted
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.reasons import flatten
from sfrbench.plan.resolve import Resolved
from sfrbench.report.facts.info import Setup
from sfrbench.results.axes import axis_text
from sfrbench.stages.external import recipe as external
from sfrbench.stages.interact import recipe as interact

_EMPTY = {
    "paper_zero": "0 where the prediction is empty",
    "skip": "left out where the prediction is empty",
    "worst": "the image diagonal where the prediction is empty",
}
_ASD = {"pred_to_gt": "ASD from prediction to truth", "gt_to_pred": "ASD from truth to prediction"}
_CHECKPOINT = {"last": "the last", "best_val": "the best on validation cases"}


def setups_of(plan: Plan, catalog: Catalog) -> list[Setup]:
    """One for each arm and point of the axes; all seeds share it."""
    found: dict[tuple[str, str], Setup] = {}
    for cell in plan.cells:
        key = (cell.arm, repr(cell.axes))
        if key not in found:
            found[key] = _setup(cell, catalog)
    return list(found.values())


def _setup(cell: Cell, catalog: Catalog) -> Setup:
    own = cell.components["dataset"]
    dataset = cast(Dataset, own.component)
    grid = changed(own, catalog, dataset.late_fields)
    alone = untrained(cell)
    return Setup(
        arm=cell.arm,
        axes=cell.axes,
        dataset=own.chosen or own.card.name,
        labeled=None if alone else dataset.labeled,
        unlabeled=None if alone else dataset.unlabeled,
        grid=_named(own, grid) if grid or own.swapped else "",
        facts=dict(_facts(cell, catalog, dataset)),
        prompts=_prompts(cell),
    )


def untrained(cell: Cell) -> bool:
    """Whether nothing in it is trained here: its model segments by prompts, or another tool's did."""
    by_others = {interact.STAGE, external.STAGE} & set(cell.nodes)
    return bool(by_others) and not {"finetune", "retrain"} & set(cell.nodes)


def _prompts(cell: Cell) -> int | None:
    if interact.STAGE not in cell.nodes:
        return None
    prompter = cast(Prompter, cell.components["prompter"].component)
    every: int | None = getattr(prompter, "every", None)
    return prompter.after if every is None else every


def changed(own: Resolved, catalog: Catalog, leave: frozenset[str] = frozenset()) -> str:
    """The fields that differ from the card that the specification names, as ``filters 8, norm instance``."""
    card = catalog.card(own.card.kind, own.chosen or own.card.name)
    leave = leave | own.component.unkeyed_fields
    if card.component_class is not type(own.component):
        return ""  # another class: the name says it
    plain = flatten(card.component({}).model_dump(exclude=set(leave)))
    actual = flatten(own.component.model_dump(exclude=set(leave)))
    return ", ".join(
        f"{path} {axis_text(value)}" for path, value in actual.items() if value != plain.get(path)
    )


def _named(own: Resolved, fields: str) -> str:
    name = f"{own.card.name} in the place of {own.chosen}" if own.swapped else own.card.label
    return f"{name} ({fields})" if fields else name


def _facts(cell: Cell, catalog: Catalog, dataset: Dataset) -> Iterator[tuple[str, str]]:
    own = cell.components
    protocol = cast(Protocol, own["protocol"].component)
    alone = untrained(cell)
    if not alone:
        yield "annotations", f"{dataset.labeled} labelled"
    if "foundation" in own and own["foundation"].swapped:
        yield "foundation", _named(own["foundation"], changed(own["foundation"], catalog))
    if "backbone" in own:
        # the paper states no precision of its networks
        yield "backbone", _named(own["backbone"], changed(own["backbone"], catalog, frozenset({"precision"})))
        yield "window", _windows(protocol, dataset)
    if "prompter" in own and interact.STAGE in cell.nodes:
        yield "clicks", _told(cell, catalog)
    after = "largest component of each class" if protocol.largest_component else "without post-processing"
    if not alone:
        yield "patch", " × ".join(map(str, dataset.patch))
        yield "checkpoint", f"{_CHECKPOINT[protocol.checkpoint]}, {after}"
    unit = "" if protocol.spacing == "voxel" else f", in {protocol.spacing}"
    yield "distances", f"{_ASD[protocol.asd]}, {_EMPTY[protocol.empty]}{unit}"
    yield "average", "the plain mean over the organs"
    if "ssl" in own:
        ssl = cast(Ssl, own["ssl"].component)
        yield "training", f"{ssl.steps} steps, {_optim(ssl.optim)}"
    if "finetune" in own:
        yield from _finetune_facts(cell, catalog, dataset)
    if "ssl" in own:
        yield from _retrain_facts(cell)
    if not alone:
        yield "augmentation of patches", _patches(cell, dataset)
    if "selector" in own:
        yield "SFR+", _rounds(own["selector"])


def _windows(protocol: Protocol, dataset: Dataset) -> str:
    """How windows of the segmenter are laid and put together."""
    stride = ", ".join(map(str, protocol.stride or dataset.stride))
    said = ["half of the patch apart" if protocol.windows == "half" else f"stride {stride}"]
    said += ["weighted by a Gaussian"] if protocol.window_weights == "gaussian" else []
    said += ["averaged as logits"] if protocol.window_mean == "logits" else []
    said += ["mirrored in 8 ways"] if protocol.mirror == "all" else []
    return ", ".join(said)


def _told(cell: Cell, catalog: Catalog) -> str:
    """Who prompts, and which rounds are scored."""
    own = cell.components["prompter"]
    prompter = cast(Prompter, own.component)
    on_axes = {path.removeprefix("prompter.") for path in cell.axes}  # the row's name has them
    said = _named(own, changed(own, catalog, frozenset({"count", "scored", *on_axes})))
    if prompter.rounds > 1:
        said += f", scored after the {'best so far' if prompter.scored == 'best' else 'last'}"
    return said


#: Fields of a stitch that augment training canvases; they have a row of their own.
_AUGMENTING = frozenset({"bezier", "rotate_canvas"})


def _finetune_facts(cell: Cell, catalog: Catalog, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Stitching, and how SAM is trained on its canvases."""
    own = cell.components
    tune, stitch = cast(Finetune, own["finetune"].component), own["stitch"].component
    yield (
        "stitching",
        _stitching(own["stitch"], catalog, dataset, cast(Foundation, own["foundation"].component)),
    )
    share, turned = getattr(stitch, "bezier", 0.0), getattr(stitch, "rotate_canvas", False)
    done = [f"Bezier map on {share:.0%} of the slices"] if share else []
    done += ["canvases turned by quarter turns and flipped"] if turned else []
    yield "augmentation of canvases", "; ".join(done) or "none"
    padding = "left out" if tune.dice_ignores_padding else "counted"
    ce = tune.ce_weight
    yield "Dice of fine-tuning", f"{1 - ce:g} Dice, {ce:g} cross-entropy; padding pixels {padding} in Dice"
    batch = counted(tune.batch, *(("patch", "patches") if tune.volumetric else ("canvas", "canvases")))
    shrinks = tune.short_batch == "shrink" and tune.batch > 1
    yield "batch of fine-tuning", f"{batch}, fewer where no more cases are left" if shrinks else batch
    yield "fine-tuning", f"{own['finetune'].card.label}, {tune.steps} steps, {_optim(tune.optim)}"


def _retrain_facts(cell: Cell) -> Iterator[tuple[str, str]]:
    """Pseudo-labels and batch of re-training."""
    ssl = cast(Ssl, cell.components["ssl"].component)
    if cell.pseudo != "none":
        how = {
            "offline": "of whole volumes, stored once (offline)",
            "online": "of each training crop as the network sees it (online)",
        }[cell.pseudo]
        swap = f"; {cell.pseudo} in the place of {cell.pseudo_chosen}" if cell.pseudo_chosen else ""
        yield "pseudo-labels", f"{how}, {ssl.pseudo_labels}, weight {ssl.w_pl:g}{swap}"
    labelled, unlabelled = ssl.batch_labeled, ssl.batch_unlabeled
    if ssl.uses_unlabelled or cell.pseudo != "none":
        yield "batch", f"{labelled} labelled + {unlabelled} unlabelled patches"
    else:
        yield "batch", counted(labelled, "labelled patch", "labelled patches")


def _stitching(own: Resolved, catalog: Catalog, dataset: Dataset, foundation: Foundation) -> str:
    """The variant, where it is not the plain grid, and where slices lie on a canvas."""
    stitch = cast(Stitch, own.component)
    fields = changed(own, catalog, _AUGMENTING)
    said = [] if own.card.name == "grid" and not fields else [_named(own, fields)]
    placed = stitch.placed(dataset.patch, foundation.canvas)
    return ", ".join([*said, placed] if placed else said)


def _patches(cell: Cell, dataset: Dataset) -> str:
    said = "random crops" + (" (never at the last offset)" if dataset.crops == "released" else "")
    trained = {
        kind: cell.components[kind].component for kind in ("finetune", "ssl") if kind in cell.components
    }
    later = ""
    if getattr(trained.get("ssl"), "augment", "") == "nnunet":
        mirrored = (
            "mirrored along all axes" if dataset.rot_flip else "not mirrored (dataset.rot_flip is false)"
        )
        later = f"nnU-Net's augmentation, {mirrored}"
        del trained["ssl"]
        if not trained:
            return f"{said}, {later}"
        later = f"; of re-training: {later}"
    said += ", quarter turns and flips in the plane of slices" if dataset.rot_flip else ""
    if any(getattr(part, "intensity_augment", False) for part in trained.values()):
        said += "; gain, offset and gamma at random (ours)"
    return said + later


def _optim(optim: Optim) -> str:
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[optim.optimiser]
    return f"{name} {optim.lr:g}, {optim.schedule}"


def _rounds(own: Resolved) -> str:
    selector = cast(Selector, own.component)
    common: Mapping[str, Any] = Selector.model_fields
    extra = [f"{name} {axis_text(value)}" for name, value in selector if name not in common]
    steps = f"{selector.finetune_steps} and {selector.retrain_steps} steps of SAM and segmenter"
    return f"{', '.join(extra) or own.card.name}; {selector.rounds} rounds of {steps}"

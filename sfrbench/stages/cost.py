"""What nodes cost, before they run: the work of networks, of the processor, and bytes of what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sfrbench.components.base import (
    Backbone,
    Component,
    Dataset,
    Finetune,
    Foundation,
    Precision,
    Selector,
    Ssl,
    Stitch,
)
from sfrbench.components.costs.parts import Extent, Passes, Segmenter, Tuned, stated
from sfrbench.maths.windows import window_count
from sfrbench.stages.settings import Size, SplitSettings, StageSettings

C = TypeVar("C", bound=Component)
T = TypeVar("T")

#: Bytes of a row of ``history.csv`` and of ``scores.csv``, roughly.
ROW = 70
#: Bytes that are written in a second.
WRITTEN = 5e8
#: Seconds to read a model that predicts.
READ = 0.1


@dataclass(frozen=True)
class Work:
    """What a node takes. ``flops``: of networks, on the device. ``host``: seconds of one usual core for what
    no network does. Where either is not known there is no ``Work``; bytes may be known alone."""

    flops: float | None
    host: float | None
    bytes: int | None
    precision: Precision = "fp32"  # of its networks
    at_most: bool = False  # a selection may leave some of it out: what it took says little of the device

    @classmethod
    def kept(cls, count: float | None) -> Work:
        """Only how much is kept is known."""
        return cls(None, None, None if count is None else round(count))


@dataclass(frozen=True)
class Counts:
    """How many cases play which part."""

    labelled: int
    unlabelled: int
    val: int
    test: int


@dataclass(frozen=True)
class Made:
    """What the cost of a node may ask of an input."""

    stage: str
    settings: StageSettings
    selector: Selector | None = None  # of a round


@dataclass(frozen=True)
class Costed:
    """A node as the ``cost`` of its recipe sees it. Nodes that look the same here cost the same."""

    components: Mapping[str, Component]
    settings: StageSettings
    inputs: Mapping[str, Made]
    extent: Extent | None  # of the prepared volumes that it makes or reads
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # of many nodes, for speed

    def component(self, kind: str, cls: type[C]) -> C:
        return cast(C, self.components[kind])

    def precision(self, kind: str) -> Precision:
        """What the networks of a kind are asked to compute in."""
        asked: Precision = getattr(self.components.get(kind), "precision", "fp32")
        return asked

    def counts(self, split: SplitSettings) -> Counts | None:
        """As ``split_cases`` has it."""
        have = self.extent
        if have is None:
            return None
        pool = have.train - have.bare - split.val
        rest = max(pool - split.labeled, 0) + have.bare
        unlabelled = rest if split.unlabeled is None else min(rest, split.unlabeled)
        test = have.test if split.max_test is None else min(have.test, split.max_test)
        return Counts(min(split.labeled, pool), unlabelled, split.val, test)

    def once(self, make: Callable[..., T], *key: Any) -> T:
        """``make()``, for all nodes of the same ``key``. Components are told apart as objects."""
        name = (make.__qualname__, *key)
        if name not in self.known:
            self.known[name] = make()
        found: T = self.known[name]
        return found

    def windows(self, patch: Size, stride: Size | None) -> int | None:
        """Windows of a mean volume."""
        have = self.extent
        if have is None:
            return None
        shape = [round(side) for side in have.shape]
        return self.once(lambda: window_count(shape, patch, stride), "windows", *shape, patch, stride)

    def segmenter(self, patch: Size) -> Segmenter | None:
        """The backbone's network."""
        backbone, have = self.components.get("backbone"), self.extent
        if not isinstance(backbone, Backbone) or have is None or not stated(backbone, "cost", ("build",)):
            return None
        return self.once(lambda: backbone.cost(patch, have.classes), id(backbone), patch, have.classes)

    def canvases(self, patch: Size) -> int | None:
        """Canvases of a patch at inference."""
        stitch, foundation = self.component("stitch", Stitch), self.component("foundation", Foundation)
        if not stated(stitch, "canvas_count", ("to_canvases",)):
            return None
        side = foundation.canvas
        return self.once(lambda: stitch.canvas_count(patch, side), id(stitch), patch, side)

    def tuned(self, patch: Size) -> Tuned | None:
        """The fine-tuned SAM, for a canvas."""
        foundation, finetune = self.component("foundation", Foundation), self.component("finetune", Finetune)
        count, have = self.canvases(patch), self.extent
        known = stated(foundation, "cost", ("build",)) and stated(finetune, "cost", ("attach",))
        if have is None or count is None or not known:
            return None

        def made() -> Tuned | None:
            sam = foundation.cost(have.classes)
            return None if sam is None else finetune.cost(sam, count)

        return self.once(made, id(foundation), id(finetune), count, have.classes)

    def passes(self, ssl: Ssl, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        """What the method does in a step."""
        known = stated(ssl, "cost", ("loss", "networks", "outputs"))
        return ssl.cost(labelled, unlabelled, network) if known else None

    def by_segmenter(self, patch: Size, stride: Size | None) -> float | None:
        """FLOPs of a whole mean volume by the backbone."""
        count, network = self.windows(patch, stride), self.segmenter(patch)
        return None if count is None or network is None else count * network.whole.forward

    def by_sam(self, patch: Size, stride: Size | None) -> float | None:
        """FLOPs of a whole mean volume by the fine-tuned SAM."""
        count, canvases, sam = self.windows(patch, stride), self.canvases(patch), self.tuned(patch)
        return None if count is None or canvases is None or sam is None else count * canvases * sam.forward


def extent_of(dataset: Dataset, root: Any) -> Extent | None:
    """What ``prepare`` will store, as far as the dataset says."""
    if not stated(dataset, "extent", ("read_case", "case_lists")):
        return None
    return dataset.extent(root)


def labelled_share(selector: Component | None) -> float | None:
    """The share of the unlabelled cases that SAM labels in a round; none: a threshold will say. Without a
    selector in its key a labelling is of all."""
    if not isinstance(selector, Selector) or selector.labels_all:
        return 1.0
    share = selector.confident_share()
    return None if share is None else 1 - share


def whole_volumes(
    cases: int, extent: Extent, each: float | None, bytes_each: float, precision: Precision
) -> Work:
    """Volumes predicted one by one, of which so many bytes a voxel are written."""
    kept = round(cases * extent.voxels * bytes_each)
    if each is None:
        return Work.kept(kept)
    return Work(cases * each, kept / WRITTEN + READ, kept, precision)

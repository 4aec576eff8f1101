"""What a report says beside the scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sfrbench.results.grid import Grid, Missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sfrbench.paper.sizes import Size
    from sfrbench.plan.build import Excluded
    from sfrbench.plan.study import Study
    from sfrbench.report.facts.volumes import MontageCase
    from sfrbench.store.store import Artefact


def no_artefact(cell: str, role: str) -> Artefact | None:
    """The artefact of a report that stands on no store."""
    return None


@dataclass(frozen=True)
class Failure:
    """A failed node: the cell that met it first, its stage, one line of reason, and where the log is."""

    cell: str
    stage: str
    reason: str
    log: str = ""


@dataclass(frozen=True)
class Counted:
    """Parameters of the models of one cell, as they are counted in its store.

    ``finetune`` are the trained and the total ones of the fine-tuned model, ``predicts`` those of the model
    that predicts, ``seconds`` what it took for a case, on ``device``; none where there is no such model, and
    then ``why_…`` says why. ``size`` is the paper's.
    """

    arm: str
    axes: Mapping[str, Any]
    seed: int
    cell: str
    finetune: tuple[int, int] | None
    predicts: int | None
    why_finetune: str = ""
    why_predicts: str = ""
    size: Size | None = None
    nodes: Sequence[str] = ()  # stage/key of what is counted
    seconds: float | None = None  # mean over cases
    why_seconds: str = ""
    device: str = ""


@dataclass(frozen=True)
class Prompted:
    """What a simulated user said to the model of one cell: ``prompts`` in the rounds up to the scored one,
    over all cases and classes, and ``seconds`` that the model took to answer these.

    Cells of one run (``key``) differ in the round that is scored; ``prompts_of_run`` and ``looks``, how often
    the user looked at the label of a case, are of all its ``rounds``.
    """

    arm: str
    axes: Mapping[str, Any]
    seed: int
    cell: str
    key: str  # of the interact node
    cases: int
    count: int  # the round that is scored
    rounds: int
    best: bool  # the best of these rounds is scored, as only the truth can tell
    prompts: int
    prompts_of_run: int
    looks: int
    seconds: float
    shows: Sequence[str] = ()  # what is told of the truth beyond the places of prompts
    from_guess: bool = False  # the user knows the segmenter's prediction, and no label


@dataclass(frozen=True)
class Pretrained:
    """The weights of a foundation in one cell, which were ``trained_on`` what may hold scored cases."""

    arm: str
    cell: str
    label: str  # of the foundation
    trained_on: str


@dataclass(frozen=True)
class Round:
    """One round of SFR+ in one cell: C of every unlabelled case, and the cases above the threshold."""

    arm: str
    axes: Mapping[str, Any]
    seed: int
    cell: str
    number: int
    threshold: float
    confidence: Mapping[str, float]
    confident: frozenset[str]
    select: str  # the key of the select node
    both: bool = False  # confident cases are pseudo-labelled as well
    by_crop: bool = False  # crops are judged one by one
    online: bool = False  # pseudo-labels are made as re-training asks for them; none is stored
    labels_all: bool = True  # SAM labels every case; else those whose labels re-training reads


@dataclass(frozen=True)
class Canvas:
    """A canvas of one case: ``image`` uint8 (C, I, I), ``maps`` the label maps (I, I) that it shows, by kind.

    ``role`` is 'train', 'test' or 'val'; it is canvas ``number`` of ``count`` of its patch.
    """

    case: str
    role: str
    number: int
    count: int
    image: NDArray[Any]
    maps: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Setup:
    """How the cells of one arm at one point of the axes are made; what the paper's tables are compared by.

    ``dataset`` is the name in the specification; ``grid`` says in what the volumes differ from those of that
    name, empty where in nothing. ``facts`` map what the paper tells of its protocol to a text of ours.
    A model that is prompted sees no labelled volume: ``prompts`` is the number that tells its rows apart, the
    spacing of the prompted slices where the user has one (``every``), else the prompts of an object.
    """

    arm: str
    axes: Mapping[str, Any]
    dataset: str
    labeled: int | None
    unlabeled: int | None = None  # at most so many; none: all the rest
    grid: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    prompts: int | None = None


@dataclass(frozen=True)
class Features:
    """Features of labelled and unlabelled cases in the segmenter of one cell, as its node left them.

    ``labelled`` and ``unlabelled`` map a case to its samples (K, V) and counts (K, 2), see the stage.
    """

    arm: str
    axes: Mapping[str, Any]
    seed: int
    cell: str
    key: str  # of the features node
    classes: Sequence[str]  # background first
    labelled: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
    unlabelled: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class Reuse:
    """What the plan shared and what the last run did; ``by_stage`` maps a stage to named counts."""

    cells: int
    nodes: int
    naive_nodes: int
    reused: int
    ran: int
    failed: int
    by_stage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class ReportInfo:
    """Everything that a report says beside the scores.

    ``arms`` are (name, label) in the order of the specification, ``axes`` map a path to its values in
    order (tied axes: one entry each), ``items`` are the entries of what is shown.
    ``pseudo_arms`` name the arms that make pseudo-labels. ``montage`` gives the volumes of
    (cell id, case, subset), none where nothing is kept; ``canvases`` those that SAM is given in a cell;
    ``artefact`` what the node of (cell id, role) left, none where there is no such node or it did not run.
    ``provenance`` is written to provenance.json with the cells and keys behind every table and figure added.
    """

    experiment: str
    title: str
    profile: str
    protocol: str
    arms: Sequence[tuple[str, str]]
    seeds: Sequence[int]
    items: Sequence[Mapping[str, Any]]
    description: str = ""
    overridden: Sequence[str] = ()  # PATH=VALUE of --set, which the specification does not have
    paper: str = ""
    protocol_fields: Mapping[str, Any] = field(default_factory=dict)
    protocols: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # of each, where there are several
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    metrics: Sequence[str] = ("dice", "jaccard", "asd", "hd95")
    pseudo_arms: Sequence[str] = ()
    missing: Sequence[Missing] = ()
    unscored: Sequence[Missing] = ()  # cells whose pseudo-labels cannot be scored, and why
    counted: Sequence[Counted] = ()
    rounds: Sequence[Round] = ()  # of SFR+
    prompted: Sequence[Prompted] = ()
    pretrained: Sequence[Pretrained] = ()
    setups: Sequence[Setup] = ()
    #: Cell -> label of its arm, and the patches that its trainings see, where it trains a segmenter.
    patches: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    features: Sequence[Features] = ()
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)  # arm -> axes without points of it
    excluded: Sequence[Excluded] = ()  # what the specification leaves out on purpose
    failures: Sequence[Failure] = ()
    flags: Sequence[str] = ()
    swaps: Sequence[str] = ()  # what stands in the place of what the specification or a source has
    reuse: Reuse | None = None
    montage: Callable[[str, str, str], MontageCase | None] | None = None
    canvases: Callable[[str], Sequence[Canvas]] | None = None
    artefact: Callable[[str, str], Artefact | None] = no_artefact
    environment: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    study: Study | None = None

    @property
    def grid(self) -> Grid:
        """Which lines there are, for ``results.lines``."""
        cells = (self.missing, self.unscored, self.pseudo_arms, self.excluded, self.without)
        return Grid(self.arms, self.seeds, self.axes, *cells)

    def only(self, arms: Collection[str]) -> ReportInfo:
        """The same for some arms."""
        names = ("missing", "unscored", "counted", "rounds", "prompted", "pretrained", "excluded", "setups")
        own: dict[str, Any] = {
            name: [entry for entry in getattr(self, name) if entry.arm in arms] for name in names
        }
        return replace(self, arms=[arm for arm in self.arms if arm[0] in arms], **own)

    def left_out(self, arm: str, axes: Mapping[str, Any] | None = None) -> str:
        """Why an arm is left out on purpose (see ``Grid``)."""
        return self.grid.left_out(arm, axes)

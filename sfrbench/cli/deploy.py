"""The commands that use a finished cell: predict and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import complete
from sfrbench.cli.common import common, open_spec
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.deploy.cell import Finished

_SEED = click.option("--seed", type=int, default=None, help="seed of the cell, where CELL does not say it")


def _finished(spec: str, name: str, seed: int | None, options: dict[str, Any]) -> Finished:
    from sfrbench.cli.cell_names import find_cell
    from sfrbench.deploy.cell import finished

    experiment = open_spec(spec, options)
    return finished(experiment, find_cell(experiment.plan, name, seed))


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@click.argument("cell", shell_complete=complete.arms)
@click.argument("image", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@common
@_SEED
@click.option(
    "--label-table",
    "table",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="names and colours of the classes, too: *.ctbl (3D Slicer) or *.label (ITK-SNAP)",
)
@click.option("--overwrite", is_flag=True, help="replace OUT, and FILE, where they exist")
def predict(
    spec: str,
    cell: str,
    image: Path,
    out: Path,
    seed: int | None,
    table: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Label an image by the model of a finished CELL of SPEC.

    CELL is an arm (sfr_mt), with values of axes where there are any ('base stitch.scale=4'), or an id. IN is
    NIfTI in any orientation, or the folder of a DICOM series. The labels come back on its own grid, in the
    format of OUT's ending: .nii.gz or .nii, .seg.nrrd (3D Slicer; extra 'nrrd'), .dcm (DICOM-SEG of a series;
    extra 'dicom').
    """
    from sfrbench.deploy.places import check_predict

    check_predict(image, out, table, overwrite)
    from sfrbench.deploy.label_files import write_labels
    from sfrbench.deploy.predict import predict_image, prepare_image, volumes_of

    finished = _finished(spec, cell, seed, options)
    prepared = prepare_image(finished, image)
    for note in prepared.notes:
        echo(f"note: {note}", err=True)
    shape = " x ".join(map(str, prepared.info.shape))
    size = f"{shape} voxels, {prepared.windows} windows"
    echo(f"{finished.cell.title}, profile {finished.experiment.profile}: {size}")
    labels = predict_image(finished, prepared, finished.experiment.machine.torch_device())
    write_labels(labels, out)
    for number, (name, ml) in enumerate(volumes_of(labels, prepared).items()):
        echo(f"class {number}: {name}, {ml:.2f} ml")
    echo(f"labels: {out}")
    if table is not None:
        from sfrbench.results.label_table import write_table

        write_table(table, labels.classes)
        echo(f"table of classes: {table}")


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@click.argument("cell", shell_complete=complete.arms)
@click.argument("outdir", type=click.Path(path_type=Path))
@common
@_SEED
@click.option("--hub", is_flag=True, help="the card as README.md with what the Hugging Face hub reads")
@click.option("--overwrite", is_flag=True, help="replace the files of an earlier export")
def export(
    spec: str, cell: str, outdir: Path, seed: int | None, hub: bool, overwrite: bool, **options: Any
) -> None:
    """Write the 3D segmenter of a finished CELL of SPEC for use elsewhere: safetensors, ONNX, model card.

    CELL as in 'sfrbench predict'. ONNX is checked against torch. Needs the extra 'export'.
    """
    from sfrbench.deploy import export as deploy

    deploy.check_place(outdir, overwrite, hub=hub)
    deploy.check_packages()
    made = deploy.export(_finished(spec, cell, seed, options), outdir, hub=hub)
    echo(f"{made.parameters:,} parameters")
    if made.training_only:
        echo(f"left out: {made.training_only:,} parameters of heads that only training uses")
    told = ", ".join(f"{value:.1e} ({name} patch)" for name, value in made.differences.items())
    echo(f"largest difference between ONNX and torch, in logits: {told}")
    echo(f"{', '.join(made.files)}: {outdir}")

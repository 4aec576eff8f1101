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


def _check_places(image: Path, out: Path, overwrite: bool) -> None:
    """Refuse before anything heavy is loaded."""
    from sfrbench.errors import InputError

    for path in (image, out):
        if not path.name.endswith((".nii", ".nii.gz")):
            raise InputError(
                "this is not the name of a NIfTI file", where=str(path), hint="*.nii.gz or *.nii"
            )
    if not image.is_file():
        raise InputError("no such file", where=str(image), hint="the image stands before the output")
    if not out.parent.is_dir():
        raise InputError("the folder does not exist", where=str(out.parent), hint="make it first")
    if out.exists() and out.samefile(image):
        raise InputError("the labels would replace the image", where=str(out), hint="name another file")
    if out.exists() and not overwrite:
        raise InputError("the file exists", where=str(out), hint="--overwrite replaces it")


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@click.argument("cell", shell_complete=complete.arms)
@click.argument("image", metavar="IN.nii.gz", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.nii.gz", type=click.Path(path_type=Path))
@common
@_SEED
@click.option("--overwrite", is_flag=True, help="replace OUT where it exists")
def predict(
    spec: str, cell: str, image: Path, out: Path, seed: int | None, overwrite: bool, **options: Any
) -> None:
    """Label an image by the model of a finished CELL of SPEC.

    CELL is an arm (sfr_mt), with values of axes where there are any ('base stitch.scale=4'), or an id. The
    image may lie in any orientation; the labels come back on its own grid.
    """
    _check_places(image, out, overwrite)
    from sfrbench.deploy.predict import predict_image, prepare_image, volumes_of, write_labels

    finished = _finished(spec, cell, seed, options)
    prepared = prepare_image(finished, image)
    for note in prepared.notes:
        echo(f"note: {note}", err=True)
    shape = " x ".join(map(str, prepared.info.shape))
    size = f"{shape} voxels, {prepared.windows} windows"
    echo(f"{finished.cell.title}, profile {finished.experiment.profile}: {size}")
    labels = predict_image(finished, prepared, finished.experiment.machine.torch_device())
    write_labels(labels, image, out)
    for number, (name, ml) in enumerate(volumes_of(labels, finished.volumes.classes, prepared).items()):
        echo(f"class {number}: {name}, {ml:.2f} ml")
    echo(f"labels: {out}")


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@click.argument("cell", shell_complete=complete.arms)
@click.argument("outdir", type=click.Path(path_type=Path))
@common
@_SEED
@click.option("--overwrite", is_flag=True, help="replace the files of an earlier export")
def export(spec: str, cell: str, outdir: Path, seed: int | None, overwrite: bool, **options: Any) -> None:
    """Write the 3D segmenter of a finished CELL of SPEC for use elsewhere: safetensors, ONNX, model card.

    CELL as in 'sfrbench predict'. ONNX is checked against torch. Needs the extra 'export'.
    """
    from sfrbench.deploy import export as deploy

    deploy.check_place(outdir, overwrite)
    deploy.check_packages()
    made = deploy.export(_finished(spec, cell, seed, options), outdir)
    echo(f"{made.parameters:,} parameters")
    if made.training_only:
        echo(f"left out: {made.training_only:,} parameters of heads that only training uses")
    told = ", ".join(f"{value:.1e} ({name} patch)" for name, value in made.differences.items())
    echo(f"largest difference between ONNX and torch, in logits: {told}")
    echo(f"{', '.join(deploy.FILES)}: {outdir}")

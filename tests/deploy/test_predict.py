"""predict: a user's image gets the labels that the stored prediction of the same case has."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.cli.cell_names import find_cell
from sfrbench.components.dataset._phantom import make
from sfrbench.components.dataset.geometry import restore
from sfrbench.deploy.cell import finished
from sfrbench.errors import InputError
from sfrbench.machine import selfcheck
from tests.support.data_writers import write_dicom, write_nifti


def named(image: nib.Nifti1Image) -> list[tuple[int, str | None]]:
    """Numbers and names of the classes in the header of a label map."""
    (extension,) = image.header.extensions
    labels = ElementTree.fromstring(extension.content).iter("Label")
    return [(int(label.attrib["Key"]), label.text) for label in labels]


def stored(ran, name: str, seed: int | None = None) -> dict[str, np.ndarray]:
    """The label maps of a cell's predict artefact, on the raw grid, by case."""
    experiment = ran.experiment
    cell = find_cell(experiment.plan, name, seed)
    artefact = experiment.store.get(*cell.nodes["predict"])
    volumes = finished(experiment, cell).volumes
    return {
        case: restore(np.load(artefact.path(f"labels/{case}.npy")), volumes.case(case))[0]
        for case in artefact.read_json("index.json")["cases"]
    }


@pytest.mark.parametrize("run", ["nifti", "hippocampus"])
def test_labels_equal_the_stored_prediction_on_the_raw_grid(run, request, tmp_path):
    ran = request.getfixturevalue(run)
    ((case, expected),) = stored(ran, "base").items()
    raw = ran.spec.parent / "data" / "imagesTr" / f"{case}.nii.gz"
    out = tmp_path / "out.nii.gz"
    done = ran.invoke("predict", str(ran.spec), "base", str(raw), str(out))
    assert done.exit_code == 0, done.output
    made, image = nib.load(out), nib.load(raw)
    assert made.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(made.dataobj), expected)
    assert made.shape == image.shape
    assert np.array_equal(made.affine, image.affine)
    assert nib.aff2axcodes(made.affine) == nib.aff2axcodes(image.affine)
    assert "class 2: part 2, " in done.output
    assert named(made)[0] == (0, "background")
    assert len(named(made)) == 3
    assert done.stderr == ""


@pytest.mark.parametrize(("wrong", "runs"), [(True, "fp32"), (False, "bf16")])
def test_where_bf16_is_wrong_it_predicts_in_fp32_as_a_run_does(nifti, monkeypatch, wrong, runs):
    fault = selfcheck.Fault(precision="bf16", operation="convolution", part="the result is", off=1, limit=0.1)
    found = selfcheck.SelfCheck(facts={}, checked=1, seconds=0, faults=(fault,) if wrong else ())
    monkeypatch.setattr(selfcheck, "kept", lambda: found)
    cell = finished(nifti.experiment, find_cell(nifti.experiment.plan, "base", None))
    assert cell.node.components["backbone"].component.precision == "bf16"
    assert cell.settled("cpu").components["backbone"].precision == runs


def test_orientation_does_not_change_the_labels(nifti, tmp_path):
    ((case, expected),) = stored(nifti, "base").items()
    assert 0 < expected.astype(bool).mean() < 1
    raw = nib.load(nifti.spec.parent / "data" / "imagesTr" / f"{case}.nii.gz")
    turn = np.array([[2, -1], [0, 1], [1, -1]])
    file, out = tmp_path / "turned.nii", tmp_path / "o.nii"
    nib.save(raw.as_reoriented(turn), file)
    done = nifti.invoke("predict", str(nifti.spec), "base", str(file), str(out))
    assert done.exit_code == 0, done.output
    made = np.asarray(nib.load(out).dataobj)
    assert np.array_equal(made, nib.orientations.apply_orientation(expected, turn))


@pytest.mark.parametrize("arm", ["sfr_mt", "ft"])
def test_a_generated_case_and_both_kinds_of_model(smoke, arm, tmp_path):
    dataset = smoke.experiment.plan.cells[0].components["dataset"].component
    image, _ = make(dataset, 100_001)
    raw = write_nifti(tmp_path / "p.nii.gz", image)
    name = f"{arm} ssl.w_pl=1"
    out = tmp_path / "o.nii.gz"
    done = smoke.invoke("predict", str(smoke.spec), name, str(raw), str(out), "--seed", "1")
    assert done.exit_code == 0, done.output
    expected = stored(smoke, name, 1)["p100001"]
    assert np.array_equal(np.asarray(nib.load(out).dataobj), expected)
    assert f"{arm} ssl.w_pl=1 seed 1, profile smoke" in done.output


def series_of(nifti, folder: Path) -> Path:
    """The test case of a miniature as a DICOM series; values are rounded in both."""
    ((case, _),) = stored(nifti, "base").items()
    raw = nib.load(nifti.spec.parent / "data" / "imagesTr" / f"{case}.nii.gz")
    write_dicom(folder / "series", np.rint(raw.get_fdata()), raw.affine)
    write_nifti(folder / "same.nii.gz", np.rint(raw.get_fdata()).astype(np.int16), raw.affine)
    return folder / "series"


def test_a_dicom_series_is_labelled_as_the_same_volume_in_nifti(nifti, tmp_path):
    hd = pytest.importorskip("highdicom", reason="highdicom, the extra 'dicom', is not installed")
    series = series_of(nifti, tmp_path)
    made = {}
    for name, image, out in (("nifti", "same.nii.gz", "a.nii.gz"), ("dicom", "series", "b.dcm")):
        arguments = [str(nifti.spec), "base", str(tmp_path / image), str(tmp_path / out)]
        table = tmp_path / f"{name}.ctbl"
        done = nifti.invoke("predict", *arguments, "--label-table", str(table))
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        assert table.read_text().splitlines()[3].startswith("1 part_1 ")
        made[name] = done.output.splitlines()[1:4]
    assert made["nifti"] == made["dicom"]  # millilitres of each class
    labels = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    assert 0 < labels.astype(bool).mean() < 1
    written = hd.seg.segread(tmp_path / "b.dcm")
    frames = written.get_pixels_by_source_instance(
        [f"1.2.3.{number + 1}" for number in range(labels.shape[2])], combine_segments=True
    )
    assert len(list(series.iterdir())) == len(frames)
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), labels)


def test_another_voxel_size_is_said(nifti, tmp_path):
    image = np.random.default_rng(0).random((20, 18, 16), dtype=np.float32)
    raw = write_nifti(tmp_path / "fine.nii.gz", image, np.diag([0.4, 0.4, 0.4, 1]))
    done = nifti.invoke("predict", str(nifti.spec), "base", str(raw), str(tmp_path / "o.nii.gz"))
    assert "note: voxels of 0.4 x 0.4 x 0.4 mm" in done.stderr
    assert "2 x 1.5 x 3 mm" in done.stderr


def test_what_cannot_be_done_is_refused_with_a_reason(nifti, tmp_path):
    case = next((nifti.spec.parent / "data" / "imagesTr").iterdir())
    there = write_nifti(tmp_path / "there.nii.gz", np.zeros((2, 2, 2), np.uint8))
    flat = write_nifti(tmp_path / "flat.nii.gz", np.random.rand(9, 9).astype(np.float32))
    text = tmp_path / "text.nii"
    text.write_text("no image")
    text.with_suffix(".dcm").write_text("one slice")
    new = tmp_path / "new.nii.gz"
    for cell, image, out, said in (
        ("base", tmp_path / "none.nii.gz", new, "no such file"),
        ("base", case, tmp_path / "o.png", "not the name of a label map"),
        ("base", text.with_suffix(".dcm"), new, "not the name of a NIfTI"),
        ("base", case, tmp_path / "o.dcm", "the image is no DICOM series"),
        ("base", case, tmp_path / ".nii.gz", "not the name of a label map"),
        ("base", tmp_path, tmp_path / "o.nii", "among the slices of the series"),
        ("base", case, tmp_path / "deep" / "o.nii", "folder does not exist"),
        ("base", case, there, "--overwrite replaces it"),
        ("base", case, case, "would replace the image"),
        ("base", flat, new, "2 dimensions"),
        ("base", text, new, "cannot be read as NIfTI"),
        ("bas", case, new, "did you mean 'base'"),
        ("base seed 7", case, new, "no cell of 'base' has seed 7"),
        ("base x=1", case, new, "no axes"),
    ):
        done = nifti.invoke("predict", str(nifti.spec), cell, str(image), str(out))
        assert done.exit_code == 2
        assert said in done.stderr
    assert not new.exists()
    done = nifti.invoke("predict", str(nifti.spec), "base", str(case), str(there), "--overwrite")
    assert done.exit_code == 0
    assert nib.load(there).shape == (20, 18, 16)


def test_a_cell_that_has_not_run_or_whose_data_are_elsewhere(nifti, tmp_path):
    case = next((nifti.spec.parent / "data" / "imagesTr").iterdir())

    def ask(*options: str) -> str:
        command = ["predict", str(nifti.spec), "base", str(case), str(tmp_path / "o.nii.gz"), *options]
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        assert done.exit_code == 2
        return done.stderr

    assert "has not been run here" in ask(*nifti.options, "--set", "ssl.steps=3")
    assert "give --data decathlon=DIR" in ask("--profile", "cpu", "--workspace", str(tmp_path))


def test_cells_are_found_by_what_tells_them_apart(smoke):
    plan = smoke.experiment.plan
    whole = find_cell(plan, "sfr_mt ssl.w_pl=0.5 seed 1")
    assert find_cell(plan, whole.id) == whole
    assert find_cell(plan, "sfr_mt  ssl.w_pl=0.5", 1) == whole
    assert find_cell(plan, "mt", 0).title == "mt ssl.w_pl=1 seed 0"
    assert find_cell(plan, "mt seed 0").title == "mt ssl.w_pl=1 seed 0"
    for name, said in (
        ("sfr_mt", r"fits 4 cells(.|\n)*" + whole.id + "  sfr_mt ssl.w_pl=0.5 seed 1"),
        ("sfr_mt ssl.w_pl=3", "there are 0.5, 1"),
        ("sfr_mt w_pl=1", "did you mean 'ssl.w_pl'"),
        ("", "no cell of 'own' is called ''"),
        ("mt ssl.w_pl=0.5", "no cell of 'mt' has ssl.w_pl=0.5"),
    ):
        with pytest.raises(InputError, match=said):
            find_cell(plan, name)

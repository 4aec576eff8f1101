"""Writers of miniature datasets, one per layout that the dataset components read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np

LA_FOLDER = "2018LA_Seg_Training Set"


def volume(
    shape: Sequence[int] = (20, 18, 16), seed: int = 0, classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image float32 and a label uint8 with a box of each foreground class."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for k in range(1, classes):
        label[2 + 4 * k : 6 + 4 * k, 5:12, 3:11] = k
    image = 40 + 10 * rng.standard_normal(shape) + 30 * label
    return image.astype(np.float32), label


def la_file(root: Path, case: str) -> Path:
    return root / LA_FOLDER / case / "mri_norm2.h5"


def write_la_case(root: Path, case: str, **datasets: Any) -> Path:
    path = la_file(root, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, compression="gzip" if np.size(values) else None)
    return path


def write_la(
    root: Path, train: Sequence[str] = ("A1", "B2", "C3"), test: Sequence[str] = ("D4",), seed: int = 0
) -> Path:
    """The layout of UA-MT."""
    for number, case in enumerate([*train, *test]):
        image, label = volume(seed=seed + number)
        write_la_case(root, case, image=image, label=label)
    (root / "train.list").write_text("\n".join(train) + "\n", encoding="utf-8")
    (root / "test.list").write_text("\n".join(test) + "\n", encoding="utf-8")
    return root


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def write_decathlon(
    root: Path,
    cases: Sequence[str] = ("c1", "c2", "c3", "c4", "c5"),
    *,
    affine: np.ndarray | None = None,
    classes: int = 3,
    **changes: Any,
) -> Path:
    """The Decathlon's own naming; ``changes`` are laid over dataset.json, a value of None removes a key."""
    for number, case in enumerate(cases):
        image, label = volume(seed=number, classes=classes)
        write_nifti(root / "imagesTr" / f"{case}.nii.gz", image, affine)
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", label, affine)
    pairs = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases]
    labels = {str(k): "background" if k == 0 else f"part {k}" for k in range(classes)}
    manifest = {"modality": {"0": "MRI"}, "labels": labels, "training": pairs, "test": []}
    return write_manifest(root, manifest, changes)


def write_nnunet(
    root: Path,
    cases: Sequence[str] = ("n1", "n2", "n3", "n4", "n5"),
    *,
    channels: int = 2,
    ending: str = ".nii.gz",
) -> Path:
    """The naming of nnU-Net: one file per channel, classes by name, no list of cases."""
    for number, case in enumerate(cases):
        image, label = volume(seed=number)
        for channel in range(channels):
            write_nifti(
                root / "imagesTr" / f"{case}_{channel:04d}{ending}", image * (channel + 1) + channel * label
            )
        write_nifti(root / "labelsTr" / f"{case}{ending}", label)
    names = {str(channel): f"channel {channel}" for channel in range(channels)}
    manifest = {
        "channel_names": names,
        "labels": {"background": 0, "liver": 1},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    return write_manifest(root, manifest, {})


def write_manifest(root: Path, manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> Path:
    merged = {key: value for key, value in {**manifest, **changes}.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(merged), encoding="utf-8")
    return root


def write_h5(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    """One case as the community passes it around."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=image, compression="gzip")
        file.create_dataset("label", data=label, compression="gzip")
    return path


def write_lists(root: Path, train: Sequence[str], test: Sequence[str], ending: str = ".list") -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"train{ending}").write_text("\n".join(train) + "\n", encoding="utf-8")
    (root / f"test{ending}").write_text("\n".join(test) + "\n", encoding="utf-8")


def organs(
    shape: Sequence[int] = (20, 18, 16), seed: int = 0, classes: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """A CT in HU, int16, and a label uint8 with a plate of each foreground class."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for k in range(1, classes):
        label[k : k + 2, 4:12, 3:11] = k
    image = 40 * rng.standard_normal(shape) + 20 * label - 60
    return image.astype(np.int16), label


def write_brats_nifti(
    root: Path, case: str, grade: str = "HGG", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A FLAIR image with an empty border and a label of 1, 2 and 4; both as they were written."""
    rng = np.random.default_rng(seed)
    image = np.zeros((22, 20, 18), np.int16)
    image[3:19, 2:17, 4:16] = rng.integers(50, 400, (16, 15, 12))
    label = np.zeros(image.shape, np.uint8)
    for value, low in ((1, 6), (2, 8), (4, 10)):
        label[low : low + 2, 6:12, 7:11] = value
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for part, values in (("flair", image), ("seg", label)):
        write_nifti(root / grade / case / f"{case}_{part}.nii.gz", values, affine)
    return image, label


def write_nrrd(path: Path, values: np.ndarray, **header: Any) -> Path:
    """LPS, 0.625 mm, as the challenge's files are; needs pynrrd."""
    import nrrd

    path.parent.mkdir(parents=True, exist_ok=True)
    usual = {
        "space": "left-posterior-superior",
        "space directions": 0.625 * np.eye(3),
        "space origin": np.array([10.0, -20.0, 30.0]),
        "encoding": "gzip",
    }
    nrrd.write(str(path), values, {**usual, **header}, index_order="F")
    return path


def write_la_scan(
    root: Path, case: str, folder: str = LA_FOLDER, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """``lgemri.nrrd`` and ``laendo.nrrd`` (255 in the atrium) of one case; both as they were written."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (64, 60, 12)).astype(np.uint8)
    label = np.zeros(image.shape, np.uint8)
    label[25:38, 22:41, 3:9] = 255
    write_nrrd(root / folder / case / "lgemri.nrrd", image)
    write_nrrd(root / folder / case / "laendo.nrrd", label)
    return image, label


def write_abdomen_case(
    root: Path, case: str, affine: np.ndarray, part: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One case of AbdomenCT-1K as it is downloaded."""
    image, label = organs(seed=seed, classes=5)
    write_nifti(root / f"AbdomenCT-1K-ImagePart{part}" / f"{case}_0000.nii.gz", image, affine)
    write_nifti(root / "Mask" / f"{case}.nii.gz", label, affine)
    return image, label


def write_dicom(
    folder: Path,
    values: np.ndarray,
    affine: np.ndarray,
    *,
    slope: float = 1.0,
    intercept: float = -1024.0,
    series: str = "1.2.3",
    seed: int = 0,
) -> list[Path]:
    """A CT series, one file per slice along the third axis of ``values`` (HU); ``affine`` leads to RAS.

    Names and instance numbers say nothing of the order. Returns the files in the order of ``values``. Needs
    pydicom.
    """
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    steps = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:3]
    across, down = (float(np.linalg.norm(steps[:, axis])) for axis in (0, 1))
    files = []
    for z, name in enumerate(np.random.default_rng(seed).permutation(values.shape[2])):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{series}.{z + 1}"
        data.SeriesInstanceUID, data.Modality = series, "CT"
        data.StudyInstanceUID, data.FrameOfReferenceUID = f"{series}.0.1", f"{series}.0.2"
        data.InstanceNumber = int(name) + 1
        data.Columns, data.Rows = values.shape[:2]
        data.PixelSpacing = [down, across]
        cosines = [*(steps[:, 0] / across), *(steps[:, 1] / down)]
        data.ImageOrientationPatient = [round(float(value), 8) for value in cosines]
        data.ImagePositionPatient = [round(float(value), 6) for value in steps @ [0, 0, z, 1]]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        stored = np.rint((values[:, :, z].T - intercept) / slope).astype(np.int16)
        data.PixelData = stored.tobytes()
        files.append(folder / f"{int(name):06d}.dcm")
        data.save_as(files[-1], enforce_file_format=True)
    return files


MACT_IDS = np.array([0, 1, 3, 4, 5, 6, 7, 11, 14], np.uint8)


def write_mact_raw(
    root: Path, case: str, affine: np.ndarray, *, dicom: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One raw case of MACT, ``PANCREAS_0002`` or ``img0001``; image in HU and label with our numbers."""
    image, label = organs(seed=seed, classes=9)
    number = case[-4:]
    if case.startswith("PANCREAS"):
        labels = root / "label_tciapancreasct_multiorgan" / "label_tcia_multiorgan"
        folder = root / "Pancreas-CT"
        if dicom:
            write_dicom(folder / case / "11-24-2015" / "CT", image, affine, seed=seed)
        else:
            write_nifti(folder / f"{case}.nii.gz", image, affine)
    else:
        labels = root / "label_btcv_multiorgan"
        part = "Training" if int(number) <= 40 else "Testing"
        write_nifti(root / "RawData" / part / "img" / f"{case}.nii.gz", image, affine)
    write_nifti(labels / f"label{number}.nii.gz", MACT_IDS[label], affine)
    return image, label


def image_of(case: Any) -> int:
    """The seed of ``volume`` that the image of a case was made from."""
    for seed in range(12):
        image = volume(seed=seed)[0]
        if np.allclose(case.image, (image - image.mean()) / image.std(), atol=1e-4):
            return seed
    raise AssertionError("an image of none of the seeds")


def write_la_raw(root: Path, affine: np.ndarray) -> np.ndarray:
    """Case A1 of the challenge's NRRD on a grid, in the training list; returns its label."""
    image, label = organs((40, 30, 12), classes=2)
    space = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]  # RAS to the file's LPS
    header = {"space directions": space[:, :3].T, "space origin": space[:, 3]}
    write_nrrd(root / LA_FOLDER / "A1" / "lgemri.nrrd", image, **header)
    write_nrrd(root / LA_FOLDER / "A1" / "laendo.nrrd", 255 * label, **header)
    write_lists(root, ["A1"], ["B2"])
    return label


def write_brats_raw(root: Path, image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> None:
    """Case BraTS19_A_1 of the challenge's NIfTI, in the training list."""
    folder = root / "LGG" / "BraTS19_A_1"
    write_nifti(folder / "BraTS19_A_1_flair.nii.gz", np.abs(image), affine)
    write_nifti(folder / "BraTS19_A_1_seg.nii.gz", label, affine)
    write_lists(root, ["BraTS19_A_1"], ["BraTS19_B_1"])


def write_btcv_raw(root: Path, affine: np.ndarray) -> np.ndarray:
    """Case 0001 of the challenge's NIfTI, in the training list; returns its label."""
    image, label = organs()
    write_nifti(root / "img0001.nii.gz", image, affine)
    write_nifti(root / "label0001.nii.gz", label, affine)
    write_lists(root, ["0001"], ["0002"])
    return label

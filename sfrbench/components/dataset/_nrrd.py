"""Reading NRRD files (pynrrd, the extra ``nrrd``)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset.geometry import Geometry
from sfrbench.errors import NotReadyError, first_line

#: Signs that turn a space's axes into right, anterior, superior.
_SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}


def read_nrrd(place: Place) -> tuple[NDArray[Any], Geometry]:
    """Values in the order of the file, (x, y, z), and its grid; no axis is turned. Raises ``DataError``."""
    if not place.file.is_file():
        raise place.error("the file is missing", "restore the file, or take the case off its list")
    try:
        import nrrd
    except ImportError as error:
        hint = "pip install 'sfrbench[nrrd]', or bring the prepared h5 files"
        raise NotReadyError(
            "reading NRRD needs the package pynrrd", where=str(place.file), hint=hint
        ) from error
    try:
        values, header = nrrd.read(str(place.file), index_order="F")
    except (nrrd.NRRDError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        text = first_line(error)
        raise place.error(f"the file cannot be read as NRRD: {text}", "copy or download it again") from error
    return np.asarray(values), _geometry(header, place)


def _geometry(header: Any, place: Place) -> Geometry:
    directions = header.get("space directions")
    if directions is None:
        steps = np.asarray(header.get("spacings", (1.0, 1.0, 1.0)), dtype=np.float64)
        affine = None
    else:
        matrix = np.asarray(directions, dtype=np.float64)  # a row per axis of the array
        if matrix.shape != (3, 3):
            raise place.error(f"'space directions' has shape {matrix.shape}, not 3 x 3", "export it again")
        steps = np.linalg.norm(matrix, axis=1)
        affine = _affine(matrix, header)
    if steps.shape != (3,) or not np.isfinite(steps).all() or steps.min() <= 0:
        shown = ", ".join(f"{step:g}" for step in steps.ravel())
        raise place.error(f"the spacing in the header is ({shown}) mm", "set it to the true voxel size")
    return Geometry((float(steps[0]), float(steps[1]), float(steps[2])), affine)


def _affine(matrix: NDArray[np.float64], header: Any) -> NDArray[np.float64] | None:
    """4x4 from voxels to RAS in mm; None if the header does not say what its space is."""
    signs = _SPACES.get(str(header.get("space", "")).lower())
    if signs is None:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs) @ matrix.T
    affine[:3, 3] = np.asarray(signs) * np.asarray(
        header.get("space origin", (0.0, 0.0, 0.0)), dtype=np.float64
    )
    return affine

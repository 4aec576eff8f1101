"""Reading the HDF5 files that the community passes around: datasets ``image`` and ``label`` per case."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from sfrbench.components.dataset._checks import Place


def read_h5(place: Place) -> tuple[Any, Any]:
    """Image and label as they are stored. Raises ``DataError``."""
    if not place.file.is_file():
        hint = "restore the file, or take the case off its list"
        if not place.file.parent.is_dir():
            raise place.error("the case is on a list and has no folder", hint)
        raise place.error("the file is missing", hint)
    try:
        with h5py.File(place.file, "r") as file:
            found = sorted(file.keys())
            for name in ("image", "label"):
                if not isinstance(file.get(name), h5py.Dataset):
                    here = ", ".join(found) or "nothing"
                    hint = f"the file must hold the datasets 'image' and 'label'; it holds {here}"
                    raise place.error(f"the dataset '{name}' is missing", hint)
            return np.asarray(file["image"]), np.asarray(file["label"])
    except (OSError, RuntimeError, KeyError) as error:  # h5py: not HDF5, truncated, damaged chunk
        text = str(error).splitlines()[0]
        what = f"the file cannot be read as HDF5: {text}"
        raise place.error(what, "copy or download the file again") from error

"""Collections of natural images, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfrbench.errors import InputError

Grey = np.ndarray[Any, np.dtype[np.float32]]
#: Images of the segmentation task of PASCAL VOC 2012, training and validation.
VOC_IMAGES = 2913


def grey(rgb: np.ndarray[Any, Any]) -> Grey:
    """(H, W, 3) uint8 to luma (H, W) float32 in [0, 1] (ITU-R BT.601); (H, W) is grey already."""
    levels = rgb if rgb.ndim == 2 else rgb[..., :3] @ np.array([0.299, 0.587, 0.114])
    return (levels / 255).astype(np.float32)


@lru_cache(maxsize=1)
def photographs() -> tuple[Grey, ...]:
    """The photographs that come with scikit-image and scikit-learn; nothing is downloaded."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    data: Any = skimage.data  # its functions carry no types
    left, right, _ = data.stereo_motorcycle()
    colour = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), left, right]
    return tuple(grey(image) for image in (*colour, *map(load_sample_image, ("china.jpg", "flower.jpg"))))


class Folder(Sequence[Grey]):
    """Images that are read when they are asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image

        path = self.files[index]
        try:
            return grey(np.asarray(Image.open(path).convert("RGB")))
        except OSError as error:
            raise InputError(f"cannot be read as an image: {error}", where=str(path)) from error


@lru_cache(maxsize=4)
def voc2012(folder: str) -> Folder:
    """The 2913 images of PASCAL VOC 2012's segmentation task, in the order of its list.

    ``folder`` is VOC2012 or its JPEGImages. Raises ``InputError`` unless list and images are complete: what
    stands in a key is the name of the collection, so it has to be that collection.
    """
    given = Path(folder).expanduser()
    root = given.parent if given.name == "JPEGImages" else given
    listed = root / "ImageSets" / "Segmentation" / "trainval.txt"
    hint = "it is the VOC2012 of the unpacked VOCtrainval_11-May-2012.tar"
    if not listed.is_file():
        raise InputError("there is no such list of PASCAL VOC 2012", where=str(listed), hint=hint)
    files = [root / "JPEGImages" / f"{name}.jpg" for name in listed.read_text(encoding="utf-8").split()]
    if len(files) != VOC_IMAGES:
        what = f"lists {len(files)} images; VOC 2012 has {VOC_IMAGES}"
        raise InputError(what, where=str(listed), hint=hint)
    missing = [path for path in files if not path.is_file()]
    if missing:
        what = f"{len(missing)} of the {len(files)} listed images are missing"
        raise InputError(what, where=str(missing[0]), hint=hint)
    return Folder(files)

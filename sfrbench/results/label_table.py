"""Names and colours of classes: in the header of a NIfTI label map, and as the tables that viewers read.

NIfTI has no field for them. Connectome Workbench keeps them in an extension of the header (code 30, XML),
and TotalSegmentator writes the same XML; readers that do not know it skip it, and the voxels stay as they
are. 3D Slicer and ITK-SNAP read a table of their own from a file beside the label map.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

#: Colours of classes 1, 2, …: told apart by the colour-blind (Okabe and Ito 2008), and seen on grey.
COLOURS = ("#F0E442", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
_SHADES = ((0.0, 0.0), (0.45, 255.0), (0.45, 0.0))  # of each next turn: so much of white, of black
_CARET, _LABEL = 30, 1002  # NIfTI: code of the extension, of the intent
#: Endings of tables, and who reads them.
TABLES = {".ctbl": "3D Slicer", ".label": "ITK-SNAP"}


def colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a class; 0 is the background, and black. Repeats after 21 classes."""
    if number == 0:
        return 0, 0, 0
    turn, place = divmod(number - 1, len(COLOURS))
    share, towards = _SHADES[turn % len(_SHADES)]
    parts = (int(COLOURS[place][at : at + 2], 16) for at in (1, 3, 5))
    red, green, blue = (round(part + share * (towards - part)) for part in parts)
    return red, green, blue


def plain(name: str) -> str:
    """A class's name on one line, without signs that no text may hold."""
    return "".join(each for each in " ".join(name.split()) if each.isprintable())


def add_names(image: Any, classes: Sequence[str]) -> None:
    """Puts names and colours into the header of a nibabel NIfTI image; the voxels stay as they are."""
    from nibabel.nifti1 import Nifti1Extension

    image.header.set_intent(_LABEL)
    image.header.extensions.append(Nifti1Extension(_CARET, _xml(classes)))


def _xml(classes: Sequence[str]) -> bytes:
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for number, name in enumerate(classes):
        parts = zip(("Red", "Green", "Blue"), colour(number), strict=True)
        shade = {part: f"{value / 255:.6g}" for part, value in parts}
        key = {"Key": str(number), **shade, "Alpha": "1" if number else "0"}
        ElementTree.SubElement(table, "Label", key).text = plain(name)
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def table_text(classes: Sequence[str], ending: str) -> str:
    """A table of classes as the viewer of an ending of ``TABLES`` reads it."""
    lines = []
    for number, name in enumerate(classes):
        shade = " ".join(map(str, colour(number)))
        if ending == ".ctbl":
            lines.append(f"{number} {plain(name).replace(' ', '_')} {shade} {255 if number else 0}")
        else:
            seen = "1 1 1" if number else "0 0 0"  # opacity, in slices, as a mesh
            quoted = plain(name).replace('"', "'")
            lines.append(f'{number} {shade} {seen} "{quoted}"')
    return "\n".join([_heads(ending, len(classes)), *lines, ""])


def _heads(ending: str, count: int) -> str:
    if ending == ".ctbl":
        return f"# Color table file\n# {count} values"
    return "# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL"


def write_table(path: Path, classes: Sequence[str]) -> None:
    """Write the table of classes whose kind is the ending of ``path``."""
    from sfrbench.files.atomic import write_atomic

    write_atomic(path, table_text(classes, path.suffix))

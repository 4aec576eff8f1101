"""Where scripts outside of the checkout find the writer of DICOM series; tests import ``tests.support``."""

from tests.support.data_writers import write_dicom

__all__ = ["write_dicom"]

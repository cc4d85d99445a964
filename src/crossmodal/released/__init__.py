"""Readers of files that other tools wrote: arrays (`arrays`), and released region features.

Region features are read from bottom-up-attention's TSV, a folder of .npz files, flat HDF5, and LMDB.

Each format has one module and opens as a `RegionFile`, whose rows are images with their ids, features and boxes and are
read one at a time. `opened` detects the format of a file.
"""

from __future__ import annotations

from pathlib import Path

from crossmodal.core import isolation
from crossmodal.core.errors import UserError
from crossmodal.released.base import RegionFile, Regions

FORMS = "a .tsv of base64 columns (also .tsv.0, .tsv.1 ...), a folder of .npz files, an .h5 or .hdf5, or an .lmdb"

__all__ = ["FORMS", "RegionFile", "Regions", "opened", "required"]


def opened(path: Path, name: str = "") -> RegionFile | None:
    """Open the region features at a path; None if it holds none, such as a table or another kind of folder.

    Parameters
    ----------
    name : name of the array of features, if the format has several arrays.

    Raises
    ------
    UserError : the file is damaged as a whole, not only in single rows.
    """
    from crossmodal.released import flat, mdb, npz, tsv

    with isolation.holding(path):
        for form in (tsv, npz, mdb, flat):
            if form.is_one(path, name):
                return form.open_regions(path, name)
    return None


def required(path: Path) -> RegionFile:
    """Open the region features at a path that must hold some.

    Raises
    ------
    UserError : the path is missing, damaged or of another format.
    """
    if not path.exists():
        raise UserError(f"{path}: not found; put it there, or correct `regions` in the data set's block of params.yaml")
    file = opened(path)
    if file is None:
        raise UserError(f"{path}: holds no region features in a known format; expected {FORMS}")
    return file

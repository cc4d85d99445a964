"""Region features as they are released: bottom-up-attention's TSV, a folder of .npz, flat HDF5, LMDB.

Each form opens as a `RegionFile`: rows are images with their ids, features and boxes, read one at a time. `opened`
tells the form of a file. Each form is one module.
"""

from __future__ import annotations

from pathlib import Path

from crossmodal import isolation
from crossmodal.errors import UserError
from crossmodal.released.base import RegionFile, Regions

FORMS = "a .tsv of base64 columns (also .tsv.0, .tsv.1 ...), a folder of .npz files, an .h5 or .hdf5, or an .lmdb"

__all__ = ["FORMS", "RegionFile", "Regions", "opened", "required"]


def opened(path: Path, name: str = "") -> RegionFile | None:
    """The region features of a path; None where it holds none, such as a table or a folder of something else.

    Parameters
    ----------
    name : of the array of features, where the form has several.

    Raises
    ------
    UserError : a file that is damaged beyond single rows.
    """
    from crossmodal.released import flat, mdb, npz, tsv

    with isolation.holding(path):
        for form in (tsv, npz, mdb, flat):
            if form.is_one(path, name):
                return form.open_regions(path, name)
    return None


def required(path: Path) -> RegionFile:
    """The same, where nothing else will do.

    Raises
    ------
    UserError : a path that is missing or is of another form.
    """
    if not path.exists():
        raise UserError(f"{path}: not found; put it there, or mend `regions` in the data set's block of params.yaml")
    found = opened(path)
    if found is None:
        raise UserError(f"{path}: holds no region features of a known form; expected {FORMS}")
    return found

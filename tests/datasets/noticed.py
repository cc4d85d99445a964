"""Whether a look at the raw files finds others than a data set's items were read from."""

from crossmodal.core import fingerprints


def changed(folder):
    """Of the data set in a folder, as the DAG asks before its rules."""
    return fingerprints.RawFiles(folder.parent).change_of_items(folder.name) != ""


def moved(path):
    """The file under another name; its bytes are the same."""
    path.rename(path.with_name(f"other-{path.name}"))

"""Reader of Kaggle's captions of Flickr8k (`captions.txt`) and Flickr30K (`results.csv`).

The columns are `image,caption` and `image_name| comment`. Neither file has partitions: they come from `lists`, such as
`Flickr_8k.trainImages.txt`, or are drawn.
"""

from __future__ import annotations

from pathlib import Path

from crossmodal.core.errors import UserError
from crossmodal.datasets import captioned, table
from crossmodal.datasets.captioned import Entry

FORMS = {("image", "caption"): ",", ("image_name", "comment"): "|"}


class Settings(captioned.Settings):
    pass


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    return [(path, part, _read(path, dataset)) for path, part in captioned.files_of(settings)]


_READER = captioned.Reader("flickr_csv", _entries)
make, read = _READER.make, _READER.read


def _read(path: Path, dataset: str) -> list[Entry]:
    captioned.existing_file(path, dataset, "Kaggle's captions.txt or results.csv")
    for (image, caption), separator in FORMS.items():
        # Flickr30K's file quotes nothing, not even captions with commas.
        rows = table.rows_of_text(path, separator, quotes=separator == ",")
        _, header = next(rows, (0, []))
        header = [name.strip() for name in header]
        if image in header and caption in header:
            return _of_rows(rows, path, header, header.index(image), header.index(caption), separator)
    names = " or ".join(f"`{separator.join(form)}`" for form, separator in FORMS.items())
    raise UserError(
        f"{path}: its first line does not name columns for image and caption; expected {names} (`reader: table` "
        "takes columns of any name)"
    )


def _of_rows(rows: table.Rows, path: Path, header: list[str], image: int, caption: int, separator: str) -> list[Entry]:
    """The entries of the rows; if the caption is the last column, it may contain the separator."""
    entries, faults = [], captioned.Faults()
    last = caption == len(header) - 1
    for number, cells in rows:
        if len(cells) < len(header) or not cells[image].strip():
            faults.add(path, f"line(s) lack one of the columns {', '.join(header)}", f"line {number}")
        else:
            words = separator.join(cells[caption:]) if last else cells[caption]
            entries.append(Entry(f"line {number}", cells[image].strip(), [words]))
    faults.stop()
    return entries

"""Python access to what the pipeline has made: `crossmodal.load` opens a trained run, `crossmodal.metrics` all numbers.

Both look into the folders that params.yaml names, below the working directory. Nothing here imports torch before a run
encodes something.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record
from crossmodal.experiments import Params, StrPath, params_of
from crossmodal.experiments.named import place_of, run_at
from crossmodal.inference import description, search
from crossmodal.inference.opened import OpenedRun
from crossmodal.tasks.base import read_numbers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

log = logging.getLogger(__name__)


def load(
    run: StrPath, params: StrPath | Iterable[StrPath] = "params.yaml", config: Mapping[str, Any] | None = None
) -> Run:
    """Open a trained run, to encode sentences and files and to search with them.

    Parameters
    ----------
    run : DATASET/SPLIT/MODEL[.VARIANT]/seedN, such as `world/full/vsepp/seed0`, or a run's folder, wherever it lies.
    params : the file that says where data and results lie; or several, of which later ones overlay earlier ones.
    config : single parameters over those of the files, such as `{"photographs": "/data/flickr8k"}`.

    Raises
    ------
    UserError : there is no such trained run, or the parameters are invalid.
    """
    return Run(opened(params_of(params, config), run))


def opened(params: Params, run: StrPath) -> OpenedRun:
    """The trained run of a name or a folder, as searches read it."""
    _, folder = place_of(Path(params.paths.results), Path(run))
    job = None
    if not (folder / "config.yaml").is_file():  # a control, or a name that the plan may know better
        job, folder = run_at(experiments.plan(params), run)
    return OpenedRun(folder, Path(params.paths.data), job if job and job.control else None)


def metrics(
    quick: bool = False, params: StrPath | Iterable[StrPath] = "params.yaml", config: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Every number that was measured, from `metrics.parquet` in the results folder: one row per number.

    Its columns are paper, task, dataset, split, model, variant, seed, aspect, metric, protocol, value, n_queries and
    n_gallery (results/README.md). Percentages lie between 0 and 100.

    Parameters
    ----------
    quick : whether the numbers of `results/quick` are wanted. Where there are no others, they are read in any case, and
        a warning says so.
    params, config : as those of `load`.

    Raises
    ------
    UserError : nothing was measured yet.
    """
    results = Path(params_of(params, config).paths.results)
    whole, part = results / "metrics.parquet", results / "quick" / "metrics.parquet"
    if not quick and not whole.exists() and part.exists():
        log.warning("%s: not found; these are the numbers of %s", whole, part)
        quick = True
    return read_parquet(part if quick else whole)


class Run:
    """A trained run: its model, what it was measured at, and the items of its data set.

    It is opened by `crossmodal.load`. The model is read when something is first encoded.
    """

    def __init__(self, opened: OpenedRun):
        self._opened = opened

    def __repr__(self) -> str:
        return f"<crossmodal.Run {self.name} in {self.folder}>"

    @property
    def name(self) -> str:
        """DATASET/SPLIT/MODEL[.VARIANT]/seedN."""
        return self._opened.job.key

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self._opened.folder

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that it compares, in the model's order."""
        return tuple(self._opened.job.modalities)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that its training depended on besides data and code: its `config.yaml`, with all `settings`."""
        return self._opened.job.model_dump(mode="json")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was recorded of its training: hashes of data and weights, versions, hardware, seconds, fallbacks.

        Raises
        ------
        UserError : the run was not trained, as a control.
        """
        return read_record(self.folder / "manifest.json")

    @property
    def metrics(self) -> pd.DataFrame:
        """What it was measured at: one row per number. Percentages lie between 0 and 100.

        The columns are task, aspect, metric, protocol, value, n_queries and n_gallery.

        Raises
        ------
        UserError : the run was not evaluated.
        """
        import pandas as pd

        rows = []
        for task in self._opened.job.tasks:
            path = self.folder / task / "metrics.json"
            if path.exists():
                rows += [{"task": task, **number} for number in read_numbers(path)[1]]
        if not rows:
            raise UserError(f"{self.folder}: was not evaluated yet (crossmodal evaluate {self.folder})")
        columns = ["task", "aspect", "metric", "protocol", "value", "n_queries", "n_gallery"]
        return pd.DataFrame(rows)[columns]

    def encode(
        self,
        *,
        text: Sequence[str] | None = None,
        image: Sequence[StrPath] | None = None,
        audio: Sequence[StrPath] | None = None,
        video: Sequence[StrPath] | None = None,
        mesh: Sequence[StrPath] | None = None,
        to: str | None = None,
    ) -> np.ndarray:
        """Encode sentences, or files of one modality. Features of files are made as those of the data set were.

        Parameters
        ----------
        text : N sentences.
        image, audio, video, mesh : the paths of N files.
        to : the modality with which they are to be compared; by default the first other one that the run reads. It
            matters to systems that have a space for each pair of modalities.

        Returns
        -------
        (N, D) float32 vectors, whose inner products with those of the modality `to` are the scores; or (N, L, D) for
        systems that compare sequences, such as the words and regions of cross attention.

        Raises
        ------
        UserError : none or several modalities are given, or one that the run does not read; a file cannot be read; or a
            sentence has no word that the run knows.
        """
        given = {"text": text, "image": image, "audio": audio, "video": video, "mesh": mesh}
        given = {modality: sources for modality, sources in given.items() if sources is not None}
        if len(given) != 1:
            raise UserError(
                f"{len(given)} modalities are given to encode; expected one of {', '.join(self.modalities)}"
            )
        ((modality, sources),) = given.items()
        to = search.direction(self._opened.job, modality, to)
        sources = [sources] if isinstance(sources, str | PathLike) else [*sources]
        if not sources:
            raise UserError(f"{modality}: an empty list is given to encode; expected sentences or files")
        from crossmodal.inference import encoding

        names = [str(source) for source in sources]
        return encoding.encode(self._opened.trained, self._opened.data, modality, names, to).numpy()

    def search(
        self,
        text: str | None = None,
        *,
        image: StrPath | None = None,
        audio: StrPath | None = None,
        video: StrPath | None = None,
        mesh: StrPath | None = None,
        item: str | None = None,
        to: str | None = None,
        k: int = 10,
        partition: str = "test",
        folder: StrPath | None = None,
        approximate: bool = False,
    ) -> search.Found:
        """The items of the data set that are nearest to a sentence, a file, or an item.

        Parameters
        ----------
        text : a sentence.
        image, audio, video, mesh : the path of a file.
        item : the id of an item of the data set.
        to : modality of the answers; by default the first other one that the run reads.
        k : number of answers.
        partition : the items that are searched: train, val, test or all.
        folder : a folder whose files are searched instead; it is indexed at the first search, below `.indexes/`.
        approximate : whether the folder is searched by a graph (usearch), which may miss some files.

        Returns
        -------
        The answers, the best first: `answers`, each with `item_id`, `modality`, `score` and `source`.

        Raises
        ------
        UserError : none or several queries are given, or as `encode`; or the item or the partition is unknown.
        """
        query = search.query_of(text, item, image=image, audio=audio, video=video, mesh=mesh)
        place = None if folder is None else Path(folder)
        return search.search(self._opened, query, to, k=k, partition=partition, folder=place, approximate=approximate)

    def describe(
        self, *pictures: StrPath, items: Sequence[str] = (), beam: int | None = None
    ) -> list[description.Described]:
        """The caption that the run, a captioner, generates for each picture.

        Parameters
        ----------
        pictures : paths of files.
        items : ids of images of the data set.
        beam : unfinished captions that are kept per picture; by default as in the run.

        Returns
        -------
        One entry per picture, with `caption`, `words`, and for systems with attention `attention` and `boxes`.

        Raises
        ------
        UserError : a run that generates no captions, a beam below 1, a file that is no picture, or arguments of other
            types.
        """
        for picture in pictures:
            if not isinstance(picture, str | PathLike):
                raise UserError(f"describe: expected the paths of pictures one by one, found {type(picture).__name__}")
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise UserError(f"describe: items: expected a list of ids, found {items!r}")
        return description.describe(self._opened, [*map(str, pictures)], items, beam).pictures

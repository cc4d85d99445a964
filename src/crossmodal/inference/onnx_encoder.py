"""The sentence encoder of a trained run as an ONNX file, because importing torch alone would make a search too slow.

`encoding.export` writes the file at the first search by a sentence, outside of the results, and writes it again when
the weights of the run have changed. Where a model cannot be exported, a note beside it keeps later searches from trying
again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import library_versions, read_record, write_json
from crossmodal.experiments import Job
from crossmodal.language.tokens import RareWords, Vocabulary
from crossmodal.runs.manifest import read_manifest

log = logging.getLogger(__name__)
ENCODERS = Path(".encoders")


def place(job: Job, to: str) -> Path:
    """The path of a run's sentence encoder for comparison with items of the modality `to`."""
    return ENCODERS / job.key / f"text-{to}.onnx"


def refuse(job: Job, to: str, weights: str, reason: str) -> None:
    """Note that the sentence encoder of a run with these weights (a SHA-256) cannot be exported, and why."""
    content = {"refused": reason, "weights_sha256": weights, "versions": _versions()}
    write_json(place(job, to).with_suffix(".json"), content)


def refusal(job: Job, to: str, weights: str) -> str | None:
    """Why the sentence encoder of a run with these weights cannot be exported by the present versions; None if unknown.

    Other weights, and other versions of the packages, are tried again.
    """
    path = place(job, to).with_suffix(".json")
    try:
        noted = read_record(path) if path.exists() else {}
    except UserError:  # a damaged note is no note
        return None
    same = noted.get("weights_sha256") == weights and noted.get("versions") == _versions()
    return noted.get("refused") if same else None


def _versions() -> dict[str, str]:
    return library_versions("crossmodal", "torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """An exported sentence encoder with its vocabulary."""

    session: Any
    vocabulary: Vocabulary
    max_words: int
    rare_words: RareWords

    def encode(self, sentence: str) -> np.ndarray:
        """(d,) float32 vector of a sentence.

        Raises
        ------
        UserError : the vocabulary has none of its words.
        """
        ids, _ = self.vocabulary.encode_known([sentence], self.max_words, self.rare_words)
        return self.vectors(ids.astype(np.int64))[0]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """(1, d) float32 vector of a sentence's (1, L) int64 word ids."""
        return self.session.run(None, {"ids": ids})[0]


def open_exported(folder: Path, job: Job, to: str) -> Exported | None:
    """The exported encoder of the run in a folder; None if there is none, or it is damaged or of other weights."""
    path = place(job, to)
    if not path.exists():
        return None
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1  # more threads do not pay for one sentence
    try:
        session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # what the reader raises for a damaged file is not documented
        log.warning("%s: cannot be read (%s); it is exported again", path, error)
        return None
    if not {"max_words", "rare_words", "weights_sha256"} <= properties.keys():  # another program or version wrote it
        return None
    if properties["weights_sha256"] != read_manifest(folder).weights_sha256:
        return None
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    return Exported(session, vocabulary, int(properties["max_words"]), properties["rare_words"])

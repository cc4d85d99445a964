"""The sentence encoder of a trained run as an ONNX file, because importing torch alone would make a search too slow.

`encoding.export` writes the file at the first search by a sentence, outside of the results, and writes it again when
the weights of the run have changed. Where a model cannot be exported, a note beside it keeps later searches from trying
again.
"""

from __future__ import annotations

import html
import json
import logging
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from crossmodal.core.errors import UserError, is_text
from crossmodal.core.files import library_versions, read_record, write_json
from crossmodal.experiments import Job
from crossmodal.language.tokens import RareWords, Vocabulary
from crossmodal.runs.manifest import read_manifest

log = logging.getLogger(__name__)
ENCODERS = Path(".encoders")


def place(job: Job, to: str) -> Path:
    """The path of a run's sentence encoder for comparison with items of the modality `to`."""
    return ENCODERS / job.key / f"text-{to}.onnx"


def state_of(job: Job, weights: str | None, data: Mapping[str, str]) -> str:
    """What a run's sentence encoder is made of: the hash of its weights, and that of features of text that it reads.

    Parameters
    ----------
    data : of the run's manifest, the hashes of its features.
    """
    return " ".join(filter(None, [weights, data.get(f"text.{job.inputs.get('text')}")]))


def refuse(job: Job, to: str, weights: str, reason: str) -> None:
    """Note that the sentence encoder of a run in this state (`state_of`) cannot be exported, and why."""
    content = {"refused": reason, "weights_sha256": weights, "versions": _versions()}
    write_json(place(job, to).with_suffix(".json"), content)


def refusal(job: Job, to: str, weights: str) -> str | None:
    """Why the sentence encoder of a run in this state cannot be exported by the present versions; None if unknown.

    Another state, and other versions of the packages, are tried again.
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


class Exported:
    """An exported sentence encoder."""

    def __init__(self, session: Any):
        self.session = session

    def inputs(self, sentence: str) -> dict[str, np.ndarray]:
        """The inputs of the graph for a sentence.

        Raises
        ------
        UserError : the sentence has nothing that the encoder reads.
        """
        raise NotImplementedError

    def encode(self, sentence: str) -> np.ndarray:
        """(d,) float32 vector of a sentence; raises as `inputs`."""
        return self.vectors(self.inputs(sentence))[0]

    def vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """(1, d) float32 vector of a sentence's inputs."""
        names = [one.name for one in self.session.get_inputs()]  # a graph keeps only those that it uses
        return self.session.run(None, {name: inputs[name] for name in names})[0]


class Words(Exported):
    """The encoder of a model that reads words of its own vocabulary."""

    PROPERTIES = ("max_words", "rare_words")

    def __init__(self, session: Any, properties: Mapping[str, str], folder: Path):
        super().__init__(session)
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self.max_words, self.rare_words = int(properties["max_words"]), cast("RareWords", properties["rare_words"])

    def inputs(self, sentence: str) -> dict[str, np.ndarray]:
        """The (1, L) int64 ids of the words."""
        ids, _ = self.vocabulary.encode_known([sentence], self.max_words, self.rare_words)
        return {"ids": ids.astype(np.int64)}


class Tokens(Exported):
    """The text tower of an encoder, and the model on its vectors.

    The library `tokenizers` reads what the tower's own tokenizer was written as.
    """

    PROPERTIES = ("tokenizer", "clean", "prompts")

    def __init__(self, session: Any, properties: Mapping[str, str], folder: Path):
        from tokenizers import Tokenizer

        super().__init__(session)
        self.tokenizer = Tokenizer.from_str(properties["tokenizer"])
        self.clean, self.prompts = properties["clean"], json.loads(properties["prompts"])

    def inputs(self, sentence: str) -> dict[str, np.ndarray]:
        """The (P, L) int64 ids and mask of the sentence in each of the prompts, under all names that towers have."""
        check_sentence(sentence)
        written = [cleaned(prompt.replace("{}", sentence), self.clean) for prompt in self.prompts]
        encoded = self.tokenizer.encode_batch(written)
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        return {"text": ids, "input_ids": ids, "attention_mask": mask}


def check_sentence(sentence: str) -> None:
    """Refuse a query without any character but blanks, or with bytes that are no text.

    Raises
    ------
    UserError : the sentence is one.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty; write what to search for")
    if not is_text(sentence):
        raise UserError(f"the sentence {sentence[:100]!r} is no text in UTF-8; write it in that encoding")


def cleaned(sentence: str, how: str) -> str:
    """A sentence as open_clip cleans it before its tokenizer, without that library, which imports torch.

    Parameters
    ----------
    how : `lower`, `whitespace` or `canonicalize` (lower case without punctuation); empty to leave it as it is.
    """
    if not how:
        return sentence
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(sentence)))
    if how == "canonicalize":
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    text = " ".join(text.split())
    return text if how == "whitespace" else text.lower()


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
    kind = next((kind for kind in (Words, Tokens) if {*kind.PROPERTIES} <= properties.keys()), None)
    if kind is None or "weights_sha256" not in properties:  # another program or version wrote it
        return None
    manifest = read_manifest(folder)
    if properties["weights_sha256"] != state_of(job, manifest.weights_sha256, manifest.data):
        return None
    try:
        return kind(session, properties, folder)
    except ImportError as error:  # of the encoder's tokenizer
        log.warning("%s: needs a further package (%s); the search uses the model itself", path, error)
        return None

"""Exports the sentence encoder of a trained run as ONNX, so that later searches need no torch.

A model that reads words is exported whole. Of a model that reads the vectors of a text tower (of open_clip or
transformers), the tower and the model on its vectors become one graph, beside the tower's tokenizer.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossmodal.core import console, registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write
from crossmodal.inference.encoding import extraction_of, given_of
from crossmodal.inference.onnx_encoder import Exported, open_exported, place, refusal, refuse, state_of
from crossmodal.inference.run import TrainedRun
from crossmodal.models import base
from crossmodal.runs.manifest import read_manifest

log = logging.getLogger(__name__)

LARGEST = 2**31  # bytes of an ONNX file, which is one protocol buffer
EXAMPLES = 20  # sentences of the data set on which a graph is compared with its model


class Sentences(nn.Module):
    """The sentence encoder of a run as a module, from the (1, L) word ids of a sentence to its (1, d) vector."""

    def __init__(self, run: TrainedRun, to: str):
        super().__init__()
        self.model, self.to_modality = run.model, to

    def forward(self, ids: Tensor) -> Tensor:
        lengths = torch.full((len(ids),), ids.shape[1])
        return self.model.encode("text", base.Batch({"text": base.Tokens(ids, lengths)}), self.to_modality)


class OfTower(nn.Module):
    """The same of a run that reads the vectors of a text tower, from the (P, L) ids of a sentence in P prompts."""

    def __init__(self, run: TrainedRun, to: str, sentences: Any, settings: Any):
        super().__init__()
        self.model, self.to_modality, self.form = run.model, to, run.source("text").form
        self.tower, self.names, self.settings = sentences.tower, sentences.names, settings

    def forward(self, *inputs: Tensor) -> Tensor:
        vector = self.tower(dict(zip(self.names, inputs, strict=True)))
        if self.settings.prompts:
            vector = vector.mean(0, keepdim=True)
            vector = nn.functional.normalize(vector, dim=-1) if self.settings.l2 else vector
        if self.settings.dtype == "float16":  # as the features are stored
            vector = vector.half().float()
        given = self.form.of_rows(vector, None)
        return self.model.encode("text", base.Batch({"text": given}), self.to_modality)


@dataclass(frozen=True)
class Graph:
    """A sentence encoder to export."""

    module: nn.Module
    names: tuple[str, ...]
    examples: list[tuple[Tensor, ...]]
    """Inputs: those of the first are traced, and on all of them the graph must come to the vectors of the module."""
    sentences: list[str]
    """The sentences of these inputs, where the exported encoder must come to the inputs too."""
    axis: int
    """The axis of the inputs whose length differs from that of the example."""
    properties: dict[str, str]


def _of_words(run: TrainedRun, to: str) -> Graph:
    words = torch.arange(4, 4 + min(6, len(run.vocabulary) - 4))[None]
    longest = run.source("text").option("max_words")
    properties = {"max_words": str(longest), "rare_words": run.source("text").option("rare_words")}
    # Tracing may have fixed the length of the example.
    examples = [words, *(words.repeat(1, length)[:, :length] for length in (1, longest))]
    return Graph(Sentences(run, to).eval(), ("ids",), [(ids,) for ids in examples], [], 1, properties)


def _of_tower(run: TrainedRun, data: Path, to: str) -> Graph:
    """The graph of a run that reads the vectors of texts.

    Raises
    ------
    UserError : the extractor of these vectors has no graph, or what is left out of it would make a difference.
    """
    extractor, settings, _ = extraction_of(run, data, "text", "a sentence")
    build = getattr(registry.module("features", extractor), "sentences", None)
    if build is None or run.source("text").form.axes != 2:  # one vector per sentence
        raise UserError(f"the extractor {extractor!r} of its sentences cannot be written as ONNX")
    sentences = build(settings)
    size = sum(value.nbytes for name, value in sentences.tower.model.state_dict().items() if not name.startswith("vis"))
    if size >= LARGEST:
        raise UserError(f"the text tower has {size:,} bytes of weights, and an ONNX file holds less than {LARGEST:,}")
    prompts = settings.prompts or ("{}",)
    asked = [item.source for item in given_of(data, "text").items if item.source.strip()][:EXAMPLES]
    examples = []
    for sentence in asked:
        inputs = [sentences.tokenize(prompt.replace("{}", sentence)) for prompt in prompts]
        examples.append(tuple(torch.stack([one[name] for one in inputs]) for name in sentences.names))
    properties = {"tokenizer": sentences.tokenizer, "clean": sentences.clean, "prompts": json.dumps(prompts)}
    return Graph(OfTower(run, to, sentences, settings).eval(), sentences.names, examples, asked, 0, properties)


def _check(exported: Exported | None, graph: Graph) -> None:
    """Compare an exported encoder with the module that it was made of.

    Raises
    ------
    AssertionError : it makes other inputs of a sentence, or comes to other vectors.
    """
    if exported is None:
        raise UserError("the written file cannot be opened")
    for n, example in enumerate(graph.examples):
        inputs = {name: value.numpy() for name, value in zip(graph.names, example, strict=True)}
        expected = graph.module(*example).numpy()
        np.testing.assert_allclose(exported.vectors(inputs), expected, rtol=1e-4, atol=1e-5)
        if graph.sentences:
            read = exported.inputs(graph.sentences[n])
            for name, value in inputs.items():
                np.testing.assert_array_equal(read[name], value, f"the tokens of {graph.sentences[n]!r} differ")


@torch.inference_mode()
def export(run: TrainedRun, folder: Path, to: str, data: Path = Path()) -> None:
    """Export the run's sentence encoder as ONNX to where later searches look for it.

    No file is kept if the export fails or its vectors differ from the model's; it is then not tried again.

    Parameters
    ----------
    data : the folder of the run's data set.
    """
    manifest = read_manifest(folder)
    state = state_of(run.job, manifest.weights_sha256, manifest.data)
    if refusal(run.job, to, state) is not None:
        return
    import onnx

    path = place(run.job, to)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        graph = _of_words(run, to) if run.source("text").form.array("text") is None else _of_tower(run, data, to)
        with atomic_write(path) as temporary, warnings.catch_warnings(action="ignore"):
            # The tracing exporter takes half a second, the newer exporter takes ten.
            # Where the exporter refuses a model, it prints the whole graph.
            with console.muted():
                torch.onnx.export(
                    graph.module,
                    graph.examples[0],
                    temporary,
                    dynamo=False,
                    input_names=[*graph.names],
                    dynamic_axes={name: {graph.axis: "length"} for name in graph.names},
                )
            written = onnx.load(temporary)
            onnx.helper.set_model_props(written, {"weights_sha256": state, **graph.properties})
            onnx.save(written, temporary)
        _check(open_exported(folder, run.job, to), graph)
    except Exception as error:  # the exporter may fail in many ways; searches then use the model itself
        path.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        refuse(run.job, to, state, reason)
        log.info(
            "%s: its encoder of sentences is not exported (%s): searches use the model itself", run.job.key, reason
        )
        return
    log.info("%s: its encoder of sentences is exported: the next search is quicker", run.job.key)

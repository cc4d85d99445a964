"""The same weights, the same batches: an authors' program and ours compared number by number, in double precision.

Encodings, loss, the gradient of every parameter, the norm at which they are clipped, and the weights after some steps
of Adam, with the largest difference of each, relative to the largest number of its kind; then the losses of two epochs.
`exact.py SPEC.json`, whose `found` names the result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from prepared import MARKS
from torch import Tensor, nn

from crossmodal.core import registry
from crossmodal.corpus.batches import batches
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.opening import load
from crossmodal.language.tokens import SPECIAL
from crossmodal.models import base

STEPS = 5
"""Steps whose norms and weights are compared."""
EPOCHS = 2
"""Epochs whose losses are compared: whether more than a step is alike, and what follows on the last batch."""
SAME = 1e-6
"""Relative difference up to which two numbers count as the same: rounding, and SCAN's small constant in its norms."""


@contextmanager
def imported(copy: Path, name: str) -> Iterator[ModuleType]:
    """A module of a program's copy, whose modules have the same names as other programs'."""
    before = set(sys.modules)
    sys.path.insert(0, str(copy))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(copy))
        for other in set(sys.modules) - before:
            module = sys.modules[other]
            places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
            if any(str(copy) in place for place in places):  # a folder of modules has no file
                del sys.modules[other]


def compared(
    name: str, copy: Path, corpus: Corpus, settings: dict[str, Any], options: dict[str, Any], *, bare: bool = False
) -> dict[str, Any]:
    """Differences of program `name` (vsepp or scan) and ours on the first batches of a corpus.

    Parameters
    ----------
    settings : of our model. options : of the program, as its command line names them. bare : without the small
        constant that SCAN's program adds to its norms.
    """
    module = registry.module("models", name)
    torch.manual_seed(0)
    ours = module.Model(module.Settings(**settings), corpus.context).double()
    with imported(copy, "model") as program, _no_gpu():
        if bare:
            program.l2norm.__defaults__ = (0.0,)
        theirs = _theirs(program, ours, name, options, corpus)
        return _differences(ours, theirs, _double(corpus, ours.settings.batch_size))


@contextmanager
def _no_gpu() -> Iterator[None]:
    """Programs that ask for a GPU by themselves find none."""
    there = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = there


def _theirs(program: ModuleType, ours: base.Model, name: str, options: dict[str, Any], corpus: Corpus) -> Any:
    """The program's system with our weights, in double precision."""
    system = {"vsepp": "VSE", "scan": "SCAN"}[name]
    theirs = getattr(program, system)(argparse.Namespace(**options))
    for part in (theirs.img_enc, theirs.txt_enc):
        part.double()
    for mine, its in _parameters(ours, theirs):
        its.data.copy_(mine.data)
    words = theirs.txt_enc.embed.weight.data
    words[: len(MARKS)] = words[[SPECIAL.index(mark) for mark in MARKS]].clone()
    theirs.optimizer = torch.optim.Adam(theirs.params, lr=options["learning_rate"])
    theirs.logger = _Silent()
    return theirs


class _Silent:
    def update(self, *_: object) -> None:
        pass


def _parameters(ours: base.Model, theirs: Any) -> list[tuple[nn.Parameter, nn.Parameter]]:
    mine = ours if hasattr(ours, "image") else next(iter(ours.networks.values()))
    pairs = [
        (mine.image.fc.weight, theirs.img_enc.fc.weight),
        (mine.image.fc.bias, theirs.img_enc.fc.bias),
        (mine.text.words.weight, theirs.txt_enc.embed.weight),
    ]
    recurrent = mine.text.gru if hasattr(mine.text, "gru") else mine.text.network
    pairs += zip(recurrent.parameters(), theirs.txt_enc.rnn.parameters(), strict=True)
    assert len(pairs) == len(list(ours.parameters())) == len(theirs.params)
    return pairs


def _double(corpus: Corpus, size: int) -> Iterator[tuple[int, base.Batch]]:
    """The number of the epoch, and a batch of it."""
    for epoch in range(EPOCHS):
        for batch in batches(corpus, size, 0, epoch):
            image = batch.inputs["image"]
            batch.inputs["image"] = (
                base.Regions(image.features.double(), image.counts)
                if isinstance(image, base.Regions)
                else image.double()
            )
            yield epoch, batch


def _differences(ours: base.Model, theirs: Any, made: Iterator[tuple[int, base.Batch]]) -> dict:
    (stage,) = ours.stages()
    ((turn, optimiser),) = ours.optimisers(stage).items()
    found: dict[str, float] = {}
    losses: list[tuple[float, float]] = []
    sums = torch.zeros(EPOCHS, 2, dtype=torch.float64)
    order_of_marks = torch.tensor([MARKS.index(mark) for mark in SPECIAL])

    def note(what: str, mine: Tensor, its: Tensor) -> None:
        scale = max(float(its.detach().abs().max()), torch.finfo(its.dtype).tiny)
        found[what] = max(found.get(what, 0.0), float((mine - its).detach().abs().max()) / scale)

    for step, (epoch, batch) in enumerate(made):
        tokens, image = batch.inputs["text"], batch.inputs["image"]
        order = torch.argsort(tokens.lengths, descending=True, stable=True)
        back = torch.argsort(order)
        ids = torch.where(tokens.ids < len(SPECIAL), order_of_marks[tokens.ids.clamp(max=3)], tokens.ids)
        features = image.features if isinstance(image, base.Regions) else image
        given = (features[order], ids[order], tokens.lengths[order].tolist())
        encoded = theirs.forward_emb(*given)
        if step == 0:
            for modality, its in zip(("image", "text"), encoded, strict=False):
                note(f"encodings of {modality}", ours.encode(modality, batch, ""), its[back])
        its_loss = theirs.forward_loss(*encoded)
        theirs.optimizer.zero_grad()
        its_loss.backward()
        my_loss = ours.loss(batch, 0.0, turn)["loss"]
        optimiser.zero_grad()
        my_loss.backward()
        sums[epoch] += torch.tensor([my_loss.item(), its_loss.item()])
        pairs = _parameters(ours, theirs)
        if step == 0:
            note("loss", my_loss.detach(), its_loss.detach())
            for (name, _), (mine, its) in zip(_named(ours), pairs, strict=True):
                note(f"gradient of {name}", _in_order(mine.grad, mine, ours), its.grad)
        norms = [
            nn.utils.clip_grad_norm_(list(ours.parameters()), ours.settings.clip),
            nn.utils.clip_grad_norm_(theirs.params, theirs.grad_clip),
        ]
        optimiser.step()
        theirs.optimizer.step()
        if step >= STEPS:
            continue
        losses.append((my_loss.item(), its_loss.item()))
        note("norm of the gradient" if step == 0 else "norm of the gradient, later steps", *norms)
        for mine, its in pairs:
            note(
                f"weights after step {1 if step == 0 else STEPS}",
                _in_order(mine, mine, ours).detach(),
                its.detach(),
            )
    for number, (mine, its) in enumerate(sums, start=1):  # relative, so that sums are as good as means
        note(f"mean loss of epoch {number}", mine, its)
    return {"differences": found, "losses": losses, "same": all(v <= SAME for k, v in found.items() if _first(k))}


def _first(what: str) -> bool:
    """Whether it belongs to the first step: later ones magnify what Adam makes of gradients that are nearly zero."""
    return not what.startswith(("weights", "mean loss of epoch")) and not what.endswith("later steps")


def _named(ours: base.Model) -> list[tuple[str, nn.Parameter]]:
    order = ("image", "words", "")
    parameters = list(ours.named_parameters())
    return [one for part in order for one in parameters if _part(one[0]) == part]


def _part(name: str) -> str:
    return "image" if ".image.fc." in f".{name}" else "words" if ".words." in name else ""


def _in_order(value: Tensor, parameter: nn.Parameter, ours: base.Model) -> Tensor:
    """A tensor of ours, the rows of word vectors in the program's order."""
    words = next(p for name, p in ours.named_parameters() if _part(name) == "words")
    if parameter is not words:
        return value
    rows = torch.arange(len(value))
    rows[: len(MARKS)] = torch.tensor([SPECIAL.index(mark) for mark in MARKS])
    return value[rows]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    found = {}
    for title, case in spec["cases"].items():
        reads = registry.module("models", case["model"]).Model.reads
        corpus = load(Path(spec["folder"]), "full", reads, case["inputs"])
        options = {**OPTIONS, **case["options"], "vocab_size": len(corpus.vocabulary)}
        options["img_dim"] = corpus.context.shapes["image"][-1]
        copy = Path(case["copy"])
        found[title] = compared(case["model"], copy, corpus, case["settings"], options, bare=case.get("bare", False))
    Path(spec["found"]).write_text(json.dumps(found))


OPTIONS = {
    "data_name": "f8k_precomp",
    "word_dim": 300,
    "num_layers": 1,
    "grad_clip": 2.0,
    "margin": 0.2,
    "learning_rate": 2e-4,
    "finetune": False,
    "cnn_type": "vgg19",
    "use_abs": False,
    "measure": "cosine",
    "no_imgnorm": False,
    "no_txtnorm": False,
    "bi_gru": True,
    "precomp_enc_type": "basic",
    "raw_feature_norm": "clipped_l2norm",
    "max_violation": False,
}
"""The programs' defaults, and the two-way GRU that SCAN's own instructions ask for."""


if __name__ == "__main__":
    main()

"""Captioners beside two public programs: the same loss with the same weights, and steps and beams per second.

ruotianluo/ImageCaptioning.pytorch's `updown` and `att2in2` have our weights and our batches, in double precision: the
loss, the gradients, and the loss after one step of Adam. Its steps and beams, and the steps of the decoder of
sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning, are timed beside ours at published widths, and beside a floor: bare
LSTMs with a bare softmax of the same widths. `captioners.py SPEC.json`, whose `found` names the result.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from exact import imported
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.core import registry
from crossmodal.language.tokens import END, PAD, SPECIAL, START, UNKNOWN
from crossmodal.models import base

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import processor

ROUNDS = 3
SAME = 1e-6
PER_IMAGE = 5
LONGEST = 16
SMALL = {"regions": 5, "width": 12, "dim": 16, "attention": 8, "words": 40, "images": 4}
WIDE = {"regions": 36, "width": 2048, "dim": 512, "attention": 512, "words": 9487, "images": 10}
GRID = {"regions": 196, "width": 2048, "dim": 512, "attention": 512, "words": 9487, "images": 32}


def captions(count: int, words: int) -> base.Tokens:
    """Captions of 8 to 15 words, with marks, in our numbers: those of a program are 3 less, and 0 for both marks."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, LONGEST + 2, (count,), generator=generator)
    ids = torch.randint(len(SPECIAL), words + len(SPECIAL), (count, int(lengths.max())), generator=generator)
    ids[:, 0] = START
    ids[torch.arange(count), lengths - 1] = END
    return base.Tokens(ids.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], PAD), lengths)


def batch_of(sizes: dict[str, int], per_image: int, *, again: bool = False) -> base.Batch:
    """A batch with `per_image` captions for each image; if `again`, each caption comes with its image's regions."""
    generator = torch.Generator().manual_seed(1)
    shape = (sizes["images"], sizes["regions"], sizes["width"])
    features = torch.rand(shape, generator=generator, dtype=torch.get_default_dtype())
    tokens = captions(sizes["images"] * per_image, sizes["words"])
    features = features.repeat_interleave(per_image, 0) if again else features
    counts = torch.full((len(features),), sizes["regions"])
    return base.Batch({"image": base.Regions(features, counts), "text": tokens})


def ours_of(name: str, sizes: dict[str, int], **settings: object) -> base.Model:
    """Our system at these sizes, without dropout."""
    module = registry.module("models", name)
    widths = {"dim": sizes["dim"], "word_dim": sizes["dim"], "attention_dim": sizes["attention"], "dropout": 0.0}
    context = base.Context({"image": (sizes["regions"], sizes["width"])}, sizes["words"] + len(SPECIAL))
    torch.manual_seed(0)
    return module.Model(module.Settings(**widths, **settings), context)


# -- ruotianluo/ImageCaptioning.pytorch -------------------------------------------------------------------------------

LAYERS = {
    "updown": {
        **{"region": "att_embed.0", "mean": "fc_embed.0", "attention": "core.att_lstm", "language": "core.lang_lstm"},
        **{"look.of_region": "ctx2att", "look.of_state": "core.attention.h2att"},
        **{"look.weight": "core.attention.alpha_net"},
    },
    "att2in2": {
        **{"region": "att_embed.0", "of_read": "core.i2h", "of_state": "core.h2h", "of_seen": "core.a2c"},
        **{"look.of_region": "ctx2att", "look.of_state": "core.attention.h2att"},
        **{"look.weight": "core.attention.alpha_net"},
    },
}
"""Our layers, and the program's of the same function; word vectors and the last layer have rows in another order."""
NAMES = {"updown": ("updown", {"projected": True}), "att2in2": ("scst", {})}


def program_of(copy: Path, kind: str, sizes: dict[str, int]) -> tuple[nn.Module, nn.Module]:
    """The program's system and its criterion."""
    options = argparse.Namespace(
        caption_model=kind,
        vocab_size=sizes["words"],
        input_encoding_size=sizes["dim"],
        rnn_size=sizes["dim"],
        num_layers=1,
        drop_prob_lm=0.0,
        max_length=LONGEST,
        seq_length=LONGEST,
        fc_feat_size=sizes["width"],
        att_feat_size=sizes["width"],
        att_hid_size=sizes["attention"],
        vocab={},
    )
    with imported(copy, "captioning.models") as models, contextlib.redirect_stdout(io.StringIO()):
        losses = importlib.import_module("captioning.modules.losses")
        return models.setup(options), losses.LanguageModelCriterion()


def take_weights(ours: base.Model, theirs: nn.Module, kind: str) -> None:
    """Give the program our weights; its biases that we have none of are 0, and our marks are never said."""
    parts = dict(theirs.named_modules())
    with torch.no_grad():
        ours.word.bias[[PAD, UNKNOWN, START]] = -1e9
        for name, other in LAYERS[kind].items():
            layer = dict(ours.named_modules())[name]
            for key, value in parts[other].named_parameters():
                value.copy_(dict(layer.named_parameters()).get(key, torch.zeros_like(value)))
        rows = torch.arange(len(ours.words.weight) - len(SPECIAL)) + len(SPECIAL)
        parts["embed.0"].weight.copy_(ours.words.weight[torch.cat([torch.tensor([START]), rows])])
        rows = torch.cat([torch.tensor([END]), rows])
        parts["logit"].weight.copy_(ours.word.weight[rows])
        parts["logit"].bias.copy_(ours.word.bias[rows])


def labels_of(tokens: base.Tokens) -> tuple[Tensor, Tensor]:
    """Captions and their mask in the program's numbers, each between zeros."""
    ids = (tokens.ids - len(SPECIAL) + 1).clamp(min=0)
    return ids, torch.arange(ids.shape[1]) < tokens.lengths[:, None]


def their_loss(theirs: nn.Module, criterion: nn.Module, batch: base.Batch) -> Tensor:
    features, _ = batch.inputs["image"]
    labels, mask = labels_of(batch.inputs["text"])
    said = theirs(features.mean(1), features, labels[:, :-1], None)
    return criterion(said, labels[:, 1:], mask[:, 1:])


def compared(copy: Path, kind: str) -> dict[str, Any]:
    """Losses and gradients with equal weights, and the losses after one step of Adam on each side."""
    torch.set_default_dtype(torch.float64)
    name, options = NAMES[kind]
    ours = ours_of(name, SMALL, **({"projected": SMALL["dim"]} if "projected" in options else {}))
    theirs, criterion = program_of(copy, kind, SMALL)
    take_weights(ours, theirs, kind)
    batch = batch_of(SMALL, PER_IMAGE)
    optimisers = [torch.optim.Adam(side.parameters(), lr=5e-4) for side in (ours, theirs)]
    losses, differences = [], {}
    for _ in range(2):
        pair = ours.likelihood(batch)["loss"], their_loss(theirs, criterion, batch)
        losses.append([loss.item() for loss in pair])
        for loss, optimiser, side in zip(pair, optimisers, (ours, theirs), strict=True):
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(side.parameters(), 0.1)
        if not differences:
            parts = dict(theirs.named_modules())
            for mine, other in LAYERS[kind].items():
                grads = dict(parts[other].named_parameters())
                for key, value in dict(ours.named_modules())[mine].named_parameters():
                    scale = grads[key].grad.abs().max().clamp(min=1e-12)
                    differences[f"{mine}.{key}"] = float((value.grad - grads[key].grad).abs().max() / scale)
        # Biases that are the program's alone stay at 0, as ours are.
        for other in LAYERS[kind].values():
            for key, value in dict(theirs.named_modules())[other].named_parameters():
                known = dict(ours.named_modules())[_mine(kind, other)]
                if key not in dict(known.named_parameters()):
                    value.grad.zero_()
        for optimiser in optimisers:
            optimiser.step()
    torch.set_default_dtype(torch.float32)
    loss = max(abs(mine - its) for mine, its in losses)
    return {"losses": losses, "loss": loss, "gradients": differences, "same": loss <= SAME}


def _mine(kind: str, other: str) -> str:
    return next(mine for mine, its in LAYERS[kind].items() if its == other)


# -- steps and beams --------------------------------------------------------------------------------------------------


def stepped(side: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A training step."""
    optimiser = torch.optim.Adam(side.parameters(), lr=5e-4)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        nn.utils.clip_grad_value_(side.parameters(), 0.1)
        optimiser.step()

    return step


class Floor(nn.Module):
    """LSTMs that read as many numbers as those of a system, zeros for an image's, and the softmax over the words."""

    def __init__(self, sizes: dict[str, int], widths: list[int]):
        super().__init__()
        self.words = nn.Embedding(sizes["words"] + len(SPECIAL), sizes["dim"])
        self.networks = nn.ModuleList([nn.LSTM(width, sizes["dim"], batch_first=True) for width in widths])
        self.word = nn.Linear(sizes["dim"], sizes["words"] + len(SPECIAL))

    def loss(self, tokens: base.Tokens) -> Tensor:
        lengths = tokens.lengths - 1
        read, said = (
            pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            for x in (self.words(tokens.ids[:, :-1]), tokens.ids[:, 1:])
        )
        for network in self.networks:
            further = network.input_size - read.data.shape[1]
            read, _ = network(read._replace(data=nn.functional.pad(read.data, (0, further))))
        return nn.functional.cross_entropy(self.word(read.data), said.data)


def timed_luo(copy: Path, kind: str) -> dict[str, float]:
    """Seconds of a processor core for steps and beams; ours also with one image per caption, as our training has it."""
    name, options = NAMES[kind]
    ours = ours_of(name, WIDE, **({"projected": WIDE["dim"]} if "projected" in options else {}), longest=LONGEST)
    theirs, criterion = program_of(copy, kind, WIDE)
    take_weights(ours, theirs, kind)
    batch, pairs = batch_of(WIDE, PER_IMAGE), batch_of(WIDE, PER_IMAGE, again=True)
    floor = Floor(WIDE, [WIDE["dim"] * times for times in ((3, 2) if kind == "updown" else (1,))])
    cases = {
        "theirs": stepped(theirs, lambda: their_loss(theirs, criterion, batch)),
        "ours": stepped(ours, lambda: ours.likelihood(batch)["loss"]),
        "ours, pairs": stepped(ours, lambda: ours.likelihood(pairs)["loss"]),
        "floor": stepped(floor, lambda: floor.loss(batch.inputs["text"])),
    }
    seconds = {case: processor(step, ROUNDS) for case, step in cases.items()}
    features, _ = batch.inputs["image"]

    def beams() -> None:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            theirs(features.mean(1), features, None, opt={"beam_size": 5, "sample_n": 1}, mode="sample")

    ours.eval()
    theirs.eval()
    seconds["their beams"] = processor(beams, ROUNDS)
    seconds["our beams"] = processor(lambda: ours.generate(batch, 5), ROUNDS)
    return seconds


def timed_sgrvinod(copy: Path) -> dict[str, float]:
    """Seconds of a processor core for a step of soft attention to 14 x 14 cells, the penalty included."""
    with imported(copy, "models") as models:
        models.device = torch.device("cpu")
        sizes = [GRID["attention"], GRID["dim"], GRID["dim"], GRID["words"] + len(SPECIAL)]
        theirs = models.DecoderWithAttention(*sizes, GRID["width"], 0.0)
    ours = ours_of("sat", GRID)
    batch = batch_of(GRID, 1)
    tokens = batch.inputs["text"]

    def loss() -> Tensor:
        said, sorted_, lengths, alphas, _ = theirs(batch.inputs["image"].features, tokens.ids, tokens.lengths[:, None])
        said, true = (pack_padded_sequence(x, lengths, batch_first=True)[0] for x in (said, sorted_[:, 1:]))
        return nn.functional.cross_entropy(said, true) + ((1.0 - alphas.sum(1)) ** 2).mean()

    floor = Floor(GRID, [GRID["dim"] + GRID["width"]])
    cases = {
        "theirs": stepped(theirs, loss),
        "ours": stepped(ours, lambda: ours.likelihood(batch)["loss"]),
        "floor": stepped(floor, lambda: floor.loss(tokens)),
    }
    return {case: processor(step, ROUNDS) for case, step in cases.items()}


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    found: dict[str, Any] = {"sizes": {"regions": WIDE, "grid": GRID}, "systems": {}}
    for kind in LAYERS if "ImageCaptioning.pytorch" in spec["copies"] else ():
        copy = Path(spec["copies"]["ImageCaptioning.pytorch"])
        found["systems"][kind] = {**compared(copy, kind), "seconds": timed_luo(copy, kind)}
    if (name := "a-PyTorch-Tutorial-to-Image-Captioning") in spec["copies"]:
        found["systems"]["soft attention"] = {"seconds": timed_sgrvinod(Path(spec["copies"][name]))}
    Path(spec["found"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

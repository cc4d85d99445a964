"""Losses, scores and gradients of an authors' program and of ours at equal weights and inputs, in double precision.

`scores.py NAME COPY FOUND.json` compares the system NAME (a key of `PROGRAMS`) with the program's copy. Inputs are made
up: none of the compared functions depends on what they are. The largest differences are relative to the largest number
of their kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import programs
import torch
from exact import _no_gpu, imported
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import base

SAME = 1e-5
PROGRAMS = {
    "cmpm": programs.CMPM,
    "cmrsc": programs.CMR_SC,
    "pvse": programs.PVSE,
    "gsmn": programs.GSMN,
    "dsve": programs.DSVE,
    "order": programs.ORDER,
}
IMAGES, CAPTIONS, DIM = 5, 5, 32
LENGTHS = (7, 6, 5, 3, 2)  # descending, as the programs sort a batch


def _difference(mine: Tensor, its: Tensor) -> float:
    its = torch.as_tensor(its).detach().double()
    return float((mine.detach() - its).abs().max() / its.abs().max().clamp(min=1e-12))


def _gradients(pairs: Iterable[tuple[nn.Parameter, nn.Parameter]]) -> float:
    """The largest difference of the gradients of our parameters and the program's, relative to the largest of each.

    Those that are mere rounding, since the loss does not depend on their parameter, count relative to all.
    """
    gradients = [(mine.grad, its.grad.view_as(mine)) for mine, its in pairs]
    least = 1e-6 * max(float(its.abs().max()) for _, its in gradients)
    return max(float((mine - its).abs().max() / its.abs().max().clamp(min=least)) for mine, its in gradients)


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sentences(dim: int) -> tuple[Tensor, Tensor]:
    """(B, L, d) unit vectors of words, zeros for padding, and (B, L) bool."""
    valid = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return F.normalize(_drawn(len(LENGTHS), max(LENGTHS), dim, seed=1), dim=2) * valid[..., None], valid


def _model(name: str, context: base.Context, **settings: Any) -> base.Model:
    torch.manual_seed(0)
    module = registry.module("models", name)
    return module.Model(module.Settings(**settings), context).double().eval()


def cmpm(copy: Path) -> dict[str, float]:
    """The port normalises a batch's matches by another norm, so that only batches of different images agree."""
    from crossmodal.models import cmpm as ours

    images, texts, classes = _drawn(6, DIM), _drawn(6, DIM, seed=1), _drawn(DIM, 9, seed=2)
    labels = torch.tensor([4, 0, 8, 3, 1, 7])
    with imported(copy, "utils.metric") as program:
        options = {"CMPM": True, "CMPC": True, "epsilon": 1e-8, "num_classes": 9, "resume": False, "feature_size": DIM}
        theirs = program.Loss(argparse.Namespace(**options)).double()
        theirs.W.data.copy_(classes)
        matching, classification, *_ = theirs(images, texts, labels)
    return {
        "CMPM": _difference(ours.matching_loss(images, texts, labels), matching),
        "CMPC": _difference(ours.classification_loss(images, texts, classes, labels), classification),
    }


def cmrsc(copy: Path) -> dict[str, float]:
    model = _model("cmrsc", base.Context({"image": (6, 9)}, 20), dim=DIM)
    regions = F.normalize(_drawn(IMAGES, 6, DIM), dim=2)
    words, valid = _sentences(DIM)
    by_words, by_regions = model.attend(regions, words, torch.ones(IMAGES, 6, dtype=torch.bool), valid)
    options = argparse.Namespace(
        lambda_softmax=9.0, agg_func="Mean", raw_feature_norm="clipped_l2norm", model_mode="vsesc"
    )
    with imported(copy, "model") as program:
        system = argparse.Namespace(training=False)
        # Its own casts to single precision are left out.
        kept, torch.Tensor.float = torch.Tensor.float, lambda self: self
        try:
            args = (regions, words[:, 0], words, torch.tensor(LENGTHS), options)
            theirs = [getattr(program.SCAN, f"xattn_score_{way}")(system, *args) for way in ("t2i", "i2t")]
        finally:
            torch.Tensor.float = kept
        hinges = program.ContrastiveLoss(options, margin=0.2, max_violation=True)(theirs[0] + theirs[1])
        loss = hinges + (theirs[0] - theirs[1]).square().sum()
    mine = model.loss(_Given(model, regions, words), 0.0, "model")["loss"]
    return {
        "text-to-image scores": _difference(by_words, theirs[0]),
        "image-to-text scores": _difference(by_regions, theirs[1]),
        "sum of both": _difference(model.score(regions, words), theirs[0] + theirs[1]),
        "loss": _difference(mine, loss),
    }


class _Given(base.Batch):
    """A batch whose encodings are given."""

    def __init__(self, model: base.Model, images: Tensor, texts: Tensor):
        super().__init__({}, torch.arange(len(images)))
        model.encode = lambda modality, batch, partner: images if modality == "image" else texts


def pvse(copy: Path) -> dict[str, float]:
    heads, word_dim = 2, 10
    model = _model("pvse", base.Context({"image": (9, 14)}, 20), dim=DIM, word_dim=word_dim, train_words=True)
    of_all = deepcopy(model.image)  # the program's own, in a module that loads an image network
    features, ids = _drawn(IMAGES, 9, 14), torch.randint(4, 20, (5, 7)) * (_sentences(2)[1])
    lengths = torch.tensor(LENGTHS)
    with imported(copy, "model") as program:
        options = argparse.Namespace(
            wemb_type=None, word_dim=word_dim, embed_size=DIM, num_embeds=heads, txt_attention=True, legacy=False,
            txt_finetune=True, dropout=0.0, order=False,
        )  # fmt: skip
        text = program.EncoderText({word: word for word in range(20)}, options).double()
        image = program.PIENet(heads, 14, DIM, 7).double()
        for part, its in ((model.embeddings["text"], text.pie_net), (model.embeddings["image"], image)):
            its.attention.w_1.load_state_dict(part.into.state_dict())
            its.attention.w_2.load_state_dict(part.heads.state_dict())
            its.fc.load_state_dict(part.fc.state_dict())
            its.layer_norm.load_state_dict(part.norm.state_dict())
        text.embed.load_state_dict(model.words.state_dict())
        text.rnn.load_state_dict(model.gru.state_dict())
        texts, _, of_texts = text(ids, lengths)
        images, _, of_images = image(of_all(features.mean(1)), features)
        images = program.l2norm(images)
    with imported(copy, "loss") as program:
        options = argparse.Namespace(
            margin=0.1, num_embeds=heads, mmd_weight=0.01, div_weight=0.1, max_violation=True, order=False
        )
        loss, _ = program.PVSELoss(options)(images, texts, of_images, of_texts)
        scores = torch.nn.MaxPool2d(heads)((images.view(-1, DIM) @ texts.reshape(-1, DIM).T)[None])[0]
    batch = base.Batch(
        {"image": base.Regions(features, torch.full((IMAGES,), 9)), "text": base.Tokens(ids, lengths)},
        torch.arange(IMAGES),
    )
    mine = {m: model.encode(m, batch, "") for m in ("image", "text")}
    my_loss = model.loss(batch, 0.0, "model")["loss"]
    loss.backward()
    my_loss.backward()
    pairs = [(model.words.weight, text.embed.weight)]
    for one, its in ((model.gru, text.rnn), (model.image, of_all)):
        pairs += zip(one.parameters(), its.parameters(), strict=True)
    for part, its in ((model.embeddings["text"], text.pie_net), (model.embeddings["image"], image)):
        for one, other in (
            (part.into, its.attention.w_1),
            (part.heads, its.attention.w_2),
            (part.fc, its.fc),
            (part.norm, its.layer_norm),
        ):
            pairs += zip(one.parameters(), other.parameters(), strict=True)
    assert len(pairs) == len(list(model.parameters()))
    return {
        "vectors of images": _difference(mine["image"], images),
        "vectors of sentences": _difference(mine["text"], texts),
        "scores": _difference(model.score(mine["image"], mine["text"]), scores),
        "loss": _difference(my_loss, loss),
        "gradients": _gradients(pairs),
    }


def gsmn(copy: Path) -> dict[str, float]:
    differences = {}
    regions, (words, valid) = F.normalize(_drawn(IMAGES, 6, DIM), dim=2), _sentences(DIM)
    corners = torch.rand(IMAGES, 6, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    boxes = corners.sort(2).values.flatten(2)
    depends = [[(0, 0), *((n, n + 1) for n in range(length - 1))] for length in LENGTHS]
    for kind in ("dense", "sparse"):
        model = _model("gsmn", base.Context({"image": (6, 9)}, 20), dim=DIM, text_graph=kind)
        (network,) = model.networks.values()
        options = argparse.Namespace(embed_size=DIM, num_block=16, lambda_softmax=20.0, is_sparse=kind == "sparse")
        with imported(copy, "graph_model") as program:
            visual, textual = (
                program.VisualGraph(16, 32, 1, 0.5).double(),
                program.TextualGraph(16, 32, 1, 0.5).double(),
            )
            gaussians = {"mean_rho": "distance", "mean_theta": "angle"}
            gaussians |= {"precision_rho": "distance_width", "precision_theta": "angle_width"}
            for its, part in (
                (visual.graph_convolution_1, network.visual),
                (textual.graph_convolution_3, network.textual),
            ):
                for kernel, mine in zip(its.conv_weights, part.kernels, strict=True):
                    kernel.load_state_dict(mine.state_dict())
            for its, mine in gaussians.items():
                getattr(visual.graph_convolution_1, its).data.copy_(getattr(network, mine).detach()[:, None])
            for graph, part in ((visual, network.visual), (textual, network.textual)):
                for its, mine in ((graph.out_1, part.hidden), (graph.out_2, part.out)):
                    its.weight_g.data.copy_(mine.parametrizations.weight.original0.detach())
                    its.weight_v.data.copy_(mine.parametrizations.weight.original1.detach())
                    its.bias.data.copy_(mine.bias.detach())
            lengths = list(LENGTHS)
            # Its adjacency is in single precision, which holds zeros and ones exactly.
            kept, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
            try:
                theirs = visual(regions, words, boxes, lengths, options) + textual(
                    regions, words, depends, lengths, options
                )
            finally:
                torch.Tensor.float = kept
        every = torch.ones(IMAGES, 6, dtype=torch.bool)
        mine = network.attend(regions, network.region_weights(boxes, every), network.words(words, valid), every)
        differences[f"{kind} scores"] = _difference(mine, theirs)
        with imported(copy, "model") as program:
            loss = program.ContrastiveLoss(options, margin=0.2, max_violation=True)(theirs)
        from crossmodal.models.parts.losses import batch_hinges

        my_loss = batch_hinges(mine, model.settings, None, 0.0)
        differences[f"{kind} loss"] = _difference(my_loss, loss)
        loss.backward()
        my_loss.backward()
        pairs = [(getattr(network, mine), getattr(visual.graph_convolution_1, its)) for its, mine in gaussians.items()]
        for graph, convolution, part in (
            (visual, visual.graph_convolution_1, network.visual),
            (textual, textual.graph_convolution_3, network.textual),
        ):
            pairs += zip(part.kernels.parameters(), convolution.conv_weights.parameters(), strict=True)
            for its, mine in ((graph.out_1, part.hidden), (graph.out_2, part.out)):
                weight = mine.parametrizations.weight
                pairs += [(weight.original0, its.weight_g), (weight.original1, its.weight_v), (mine.bias, its.bias)]
        differences[f"{kind} gradients"] = _gradients(pairs)
    return differences


def dsve(copy: Path) -> dict[str, float]:
    from crossmodal.models import dsve as ours

    images, texts = F.normalize(_drawn(6, DIM), dim=1), F.normalize(_drawn(6, DIM, seed=1), dim=1)
    texts[0] = -images[0]  # a pair that is its own hardest negative there
    cells = _drawn(4, 49, 7)
    with imported(copy, "misc.loss") as program:
        loss = program.HardNegativeContrastiveLoss()(images, texts)
    with imported(copy, "misc.weldonModel") as program:
        pooled = program.WeldonPooling(15)(cells.transpose(1, 2).reshape(4, 7, 7, 7)).view(4, 7)
    return {
        "WELDON": _difference(ours.weldon(cells, torch.full((4,), 49), 15), pooled),
        "loss": _difference(ours.lowered_hinges(images @ texts.T, 0.2), loss),
    }


def order(copy: Path) -> dict[str, float]:
    model = _model("order_embeddings", base.Context({"image": (5,)}, 20), dim=DIM)
    images, texts = (F.normalize(_drawn(6, DIM, seed=seed), dim=1).abs() for seed in (0, 1))
    with imported(copy, "model") as program:
        from theano.tensor import tensor

        options = {"margin": 0.05, "method": "order"}
        loss = float(program.contrastive_loss(tensor(texts.numpy()), tensor(images.numpy()), options))
    mine = model.loss(_Given(model, images, texts), 0.0, "model")["loss"]
    return {"loss": _difference(mine, torch.tensor(loss))}


SYSTEMS: dict[str, Callable[[Path], dict[str, float]]] = {
    "cmpm": cmpm, "cmrsc": cmrsc, "pvse": pvse, "gsmn": gsmn, "dsve": dsve, "order": order,
}  # fmt: skip


def compared(name: str, copy: Path) -> dict[str, Any]:
    """The differences of a system and of a program's copy, and whether all of them are rounding."""
    torch.manual_seed(0)
    with _no_gpu():
        differences = SYSTEMS[name](copy)
    return {"differences": differences, "same": all(value <= SAME for value in differences.values())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path(sys.argv[3]).write_text(json.dumps(compared(sys.argv[1], Path(sys.argv[2]))))

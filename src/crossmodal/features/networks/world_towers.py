"""Training of the small pair of towers that is committed as `world_clip`, the stand-in for CLIP's weights.

A vision transformer and a text transformer of open_clip learn from scratch which caption was written of which picture,
on drawn scenes of a seed that no data set uses, by CLIP's symmetric cross-entropy (Radford et al., 2021, section 2.3).
Since a few thousand scenes are little for a transformer, the patch token in which the middle of an object lies also
predicts the class, colour and size of that object, as in `world_backbone`, and an image's vector is made from the mean
of its patch tokens. The folder has the layout of open_clip.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor, resize

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, hardware, library_versions, sha256_file, write_json, write_text
from crossmodal.datasets import world
from crossmodal.features.networks.backbones import MEAN, STD
from crossmodal.features.networks.world_backbone import (
    COLOURS,
    KINDS,
    MOST,
    PARTS,
    SIZES,
    cell_loss,
    drawn,
    normalised,
    shifted_crop,
)

log = logging.getLogger(__name__)

CAPTIONS = 5  # of a scene, one of which is drawn in each epoch
MARGIN = 4  # maximum shift of a picture in pixels
WEIGHTS = "open_clip_model.safetensors"
VOCABULARY = 49408  # tokens of open_clip's own tokenizer
LARGEST = math.log(100)  # of the logarithm of the inverse temperature (CLIP, section 2.5)


class Settings(BaseModel):
    """Settings of the training and of the towers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(
        7933, description="seed of the scenes, the initial weights and the order; no data set may have the same"
    )
    images: int = Field(3000, ge=1)
    held_out: int = Field(400, ge=1, description="number of further scenes on which the recall is measured")
    epochs: int = Field(14, ge=1)
    batch_size: int = Field(32, ge=2)
    lr: float = Field(1e-3, gt=0, description="highest learning rate of the one-cycle schedule")
    side: int = Field(96, ge=16, description="side in pixels of the square to which a picture is squashed")
    patch: int = Field(16, ge=1, description="side of a patch in pixels")
    width: int = Field(128, ge=32, multiple_of=32, description="dimensions of the tokens of the image tower")
    layers: int = Field(2, ge=1, description="layers of the image tower")
    text_width: int = Field(64, ge=32, multiple_of=32, description="dimensions of the tokens of the text tower")
    text_layers: int = Field(2, ge=1, description="layers of the text tower")
    dim: int = Field(64, ge=1, description="dimensions of the common space")
    context: int = Field(32, ge=4, description="largest number of tokens of a caption")


class Sample(NamedTuple):
    """A drawn scene with its captions."""

    pixels: np.ndarray  # (3, side, side) uint8
    tokens: np.ndarray  # (CAPTIONS, context) ids of the tokens of each caption
    things: np.ndarray  # (MOST, 3) class, colour, size of each object; -1 if there is none
    centres: np.ndarray  # (MOST, 2) row and column of each object's middle, in pixels of `pixels`


def config(settings: Settings, vocabulary: int) -> dict[str, Any]:
    """The content of `open_clip_config.json` for towers of these settings and a number of tokens."""
    vision = {"image_size": settings.side, "patch_size": settings.patch, "layers": settings.layers}
    text = {"context_length": settings.context, "vocab_size": vocabulary, "layers": settings.text_layers}
    return {
        "model_cfg": {
            "embed_dim": settings.dim,
            "vision_cfg": {**vision, "width": settings.width, "head_width": 32, "mlp_ratio": 3.0, "pool_type": "avg"},
            "text_cfg": {**text, "width": settings.text_width, "heads": settings.text_width // 16},
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "squash"},
    }


def sample(settings: Settings, index: int) -> Sample:
    """The training sample of scene `index` of the settings' seed."""
    image, what = world.draw_scene(settings.seed, index)
    pixels = pil_to_tensor(resize(image, [settings.side, settings.side])).numpy()
    ids = _tokenizer(settings.context)(world.captions(settings.seed, index, what, CAPTIONS)).numpy()
    things, centres = np.full((MOST, 3), -1, np.int64), np.zeros((MOST, 2), np.float32)
    for n, thing in enumerate(what.things):
        things[n] = KINDS.index(thing.kind), COLOURS.index(thing.colour), SIZES.index(thing.size)
        left, top, right, bottom = thing.box
        middle = (top + bottom) / 2 / image.height, (left + right) / 2 / image.width
        centres[n] = np.multiply(middle, settings.side)
    return Sample(pixels, ids, things, centres)


class Towers(nn.Module):
    """Both towers, and a linear map from the patch tokens to the class, colour and size of an object.

    Parameters
    ----------
    vocabulary : number of tokens; only those that captions hold are trained.
    """

    def __init__(self, settings: Settings, vocabulary: int) -> None:
        super().__init__()
        self.clip = _library().CLIP(**config(settings, vocabulary)["model_cfg"])
        self.clip.visual.output_tokens = True
        self.cells = nn.Linear(settings.width, sum(PARTS))

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Map pictures (B, 3, H, W) to their unit vectors (B, D) and the map of their patch tokens (B, C, h, w)."""
        vectors, tokens = self.clip.visual(batch)
        high, wide = self.clip.visual.grid_size
        return nn.functional.normalize(vectors, dim=1), tokens.transpose(1, 2).unflatten(2, (high, wide))


def train(settings: Settings, target: Path, *, threads: int) -> None:
    """Train and write the folder `target`: the configuration, the weights in float16, and a manifest.

    The same settings, threads and library versions give the same bytes on the same processor. Tokens that no caption
    of the training holds have vectors of zeros, so that a word that is not known says nothing.

    Raises
    ------
    UserError : open_clip is not installed, or the target cannot be written.
    """
    _library()
    began = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    pixels, tokens, things, centres = drawn(settings, threads, sample)
    n = settings.images
    vocabulary = tokens[:n].unique()  # sorted, so that the last token of a caption remains that with the largest id
    rows = torch.searchsorted(vocabulary, tokens).clamp(max=len(vocabulary) - 1)
    model = Towers(settings, len(vocabulary))
    steps = settings.epochs * -(-n // settings.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=steps, pct_start=0.1)
    for epoch in range(settings.epochs):
        start, totals = time.perf_counter(), torch.zeros(2)
        model.train()
        for picks in torch.randperm(n).split(settings.batch_size):
            down, right = torch.randint(-MARGIN, MARGIN + 1, (2,)).tolist()
            batch, corner = shifted_crop(pixels[picks], settings.side, down, right)
            images, last = model(normalised(batch))
            texts = model.clip.encode_text(rows[picks, torch.randint(CAPTIONS, (len(picks),))], normalize=True)
            logits = model.clip.logit_scale.clamp(max=LARGEST).exp() * images @ texts.T
            pairs = torch.arange(len(picks))
            contrast = nn.functional.cross_entropy(logits, pairs) + nn.functional.cross_entropy(logits.T, pairs)
            cells = cell_loss(model.cells, last, things[picks], centres[picks] - corner, stride=settings.patch)
            cells = cells / len(picks)
            loss = contrast / 2 + cells
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            totals += torch.stack([contrast.detach() / 2, cells.detach()]) * len(picks)
        progress = (epoch + 1, settings.epochs, *(totals / n).tolist(), time.perf_counter() - start)
        log.info("epoch %d of %d: loss %.2f of pairs, %.2f of cells (%.0f s)", *progress)
    state = {name: value.half() for name, value in model.clip.state_dict().items()}
    model.clip.load_state_dict(state)  # the stored float16 weights are the ones measured
    recall = _recall(model, shifted_crop(pixels[n:], settings.side, 0, 0)[0], rows[n:])
    log.info("held out: %s", recall)
    embedding = torch.zeros(VOCABULARY, settings.text_width, dtype=torch.float16)
    embedding[vocabulary] = state["token_embedding.weight"]
    state["token_embedding.weight"] = embedding
    write_text(target / "open_clip_config.json", json.dumps(config(settings, VOCABULARY), indent=2) + "\n")
    with atomic_write(target / WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    write_json(
        target / "training.json",
        {
            "settings": settings.model_dump(),
            "tokens": len(vocabulary),
            "held_out_recall": recall,
            "sha256": sha256_file(target / WEIGHTS),
            "threads": threads,
            "seconds": round(time.perf_counter() - began),
            "hardware": hardware(),
            "versions": library_versions("torch", "torchvision", "open_clip_torch", "pillow", "numpy"),
        },
    )


def _library() -> ModuleType:
    try:
        import open_clip
    except ImportError:
        raise UserError("the towers need a further package: pip install 'crossmodal[open-clip]'") from None
    return open_clip


@cache
def _tokenizer(context: int) -> Callable[[list[str]], Tensor]:
    return _library().SimpleTokenizer(context_length=context)


@torch.inference_mode()
def _recall(model: Towers, pixels: Tensor, rows: Tensor) -> dict[str, float]:
    """Share of the queries of either modality whose best-ranked item is one of their scene."""
    model.eval()
    images = torch.cat([model(normalised(part))[0] for part in pixels.split(100)])
    texts = model.clip.encode_text(rows.flatten(0, 1), normalize=True)
    scores = texts @ images.T
    scene = torch.arange(len(images))
    of_text = scene.repeat_interleave(rows.shape[1])
    hits = {
        "text-to-image": scores.argmax(1) == of_text,
        "image-to-text": of_text[scores.argmax(0)] == scene,
    }
    return {direction: round(float(hit.float().mean()), 4) for direction, hit in hits.items()}

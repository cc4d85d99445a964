"""What the towers of image-text models have in common, whichever library has them.

A tower maps inputs to one vector per item or, for images, to the tokens of their patches, which become regions. How a
picture or a sentence becomes inputs, and how a tower is called, is told by the extractor.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from crossmodal.core import pictures
from crossmodal.core.errors import UserError, first_line
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Item, Work
from crossmodal.features.networks import backbones

LAYERS = 200  # of a tower; a thousand take seconds to lay out
SMALL = 2**26  # bytes of weights that may always be there
SEEDED = 2**32  # bytes of a model with random weights, which no file of weights bounds: those of ViT-H/14 fit
SIDE, PATCHES = 4096, 65_536  # of a picture as a tower sees it: pixels of a side, and number of patches
BATCH = 2**29  # bytes of the pictures of a batch
SLENDER = 200  # ratio of a picture's sides, since its short side may be scaled to that of the tower
KEPT = 10_000  # largest number of texts whose ensembles of prompts are kept
NOISE = 256  # side in pixels of a picture on which the precision is tried where no other can be read

Inputs = dict[str, Tensor]
"""The inputs of one item or, stacked, those of a batch."""


class Settings(extraction.Settings):
    """Settings of every extractor that is a tower."""

    output: Literal["vector", "patches"] = Field(
        "vector",
        description="vector: the tower's vector; patches: of images, the last tokens of the patches as regions, before "
        "the projection to the common space",
    )
    l2: bool = Field(
        True,
        description="whether vectors, or the features of each patch, are scaled to unit length; where it is not given, "
        "vectors are and patches are not, as regions of detectors are not",
    )
    prompts: tuple[str, ...] = Field(
        (),
        description="sentences such as `a photo of a {}.`, in each of which {} becomes the text; the vectors of the "
        "sentences are averaged and, with `l2`, scaled to unit length again (CLIP, section 3.1.4); none: the text",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="precision of the forward pass; auto: bf16 where the processor supports it"
    )
    seed: int = Field(0, description="seed of the weights where `weights` is seeded")
    batch_size: int = Field(16, ge=1, description="number of items per forward pass of one thread")

    @model_validator(mode="before")
    @classmethod
    def _patches_as_they_are(cls, value: Any) -> Any:
        # SCAN's linear map has a bias, which outweighs features of unit length: its training stays on its plateau.
        patches = isinstance(value, dict) and value.get("output") == "patches"
        return {"l2": False, **value} if patches else value

    @field_validator("prompts")
    @classmethod
    def _with_a_gap(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in value:
            if prompt.count("{}") != 1:
                raise ValueError(f"{prompt!r} has {prompt.count('{}')} places for a text, expected one: {{}}")
        return value


class Tower(nn.Module):
    """One tower of a model.

    Parameters
    ----------
    encode : maps the model and the inputs of B items to (B, D) vectors or (B, N, D) patch tokens.
    l2 : whether these are scaled to unit length.
    """

    def __init__(self, model: nn.Module, encode: Callable[[nn.Module, Inputs], Tensor], *, l2: bool):
        super().__init__()
        self.model, self.encode, self.l2 = model, encode, l2

    def forward(self, inputs: Inputs) -> Tensor:
        """Map the inputs of B items to float32 features."""
        out = self.encode(self.model, inputs).float()
        return nn.functional.normalize(out, dim=-1) if self.l2 else out


@dataclass(frozen=True)
class Sentences:
    """The text tower of a model as it is exported: what its tokens are, and how they are made without torch."""

    tower: Tower
    names: tuple[str, ...]
    """The names of the tower's inputs: those of ids, and of the mask of the ids that are tokens of the sentence."""
    tokenize: Callable[[str], Inputs]
    """The inputs of one sentence."""
    tokenizer: str
    """The same tokenizer in the JSON of the library `tokenizers`, with its truncation and its padding."""
    clean: str = ""
    """How open_clip cleans a sentence before: `lower`, `whitespace` or `canonicalize`; empty: it is left as it is."""


def json_of(tokenizer: Any, where: str) -> str:
    """The JSON of a tokenizer of transformers, which has been called once, so that it truncates and fills up.

    Raises
    ------
    UserError : it is written in Python and not by the library `tokenizers`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"{where}: its tokenizer {type(tokenizer).__name__} cannot be read without its library")
    content = json.loads(backend.to_str())
    if not (content["truncation"] and content["padding"]):
        raise UserError(f"{where}: its tokenizer {type(tokenizer).__name__} makes inputs of different lengths")
    return json.dumps(content)


def check_request(extractor: str, settings: Settings, modality: str) -> None:
    """Refuse items that no tower reads, patches of sentences, and prompts for images."""
    if modality not in ("image", "text"):
        raise UserError(
            f"params.yaml: extractors.*.modality: the extractor {extractor!r} reads image and text items, found "
            f"{modality!r}; set `modality: image` or `modality: text`"
        )
    if settings.output == "patches" and modality == "text":
        raise UserError("extractors.*.output: `patches` are those of images, found text items; set `output: vector`")
    if settings.prompts and modality == "image":
        raise UserError("extractors.*.prompts: are for texts, found image items; name them in the extractor of texts")


def check_layers(where: str, count: Any) -> None:
    """Refuse a number of layers with which building the model would never end."""
    if not isinstance(count, int) or not 0 < count <= LAYERS:
        raise UserError(f"{where}: layers: found {str(count)[:40]}, expected whole numbers up to {LAYERS}")


def check_size(described: nn.Module, folder: str, weights: str, stored: int) -> None:
    """Refuse a configuration whose model would be far larger than its file of weights, before it takes memory.

    Parameters
    ----------
    described : the model without memory, on the device `meta`.
    weights : name of the file of the weights.
    stored : bytes of that file.
    """
    most = 8 * stored + SMALL  # of weights in half precision and less
    if (size := _size(described)) > most:
        raise UserError(
            f"extractors.*.model: the model that {folder!r} describes has {size:,} bytes of weights, but "
            f"{weights} has {stored:,}; fetch the model again"
        )


def check_seeded(described: nn.Module, folder: str) -> None:
    """Refuse a configuration whose random weights would be more than `SEEDED` bytes; `described` as above."""
    if (size := _size(described)) > SEEDED:
        raise UserError(
            f"extractors.*.model: the model that {folder!r} describes has {size:,} bytes of weights, expected at most "
            f"{SEEDED:,} of random ones (`weights: seeded`); name its file of weights"
        )


def _size(described: nn.Module) -> int:
    """Bytes of a model in float32, its buffers included: masks of attention are not in a state dict."""
    return 4 * sum(value.numel() for value in (*described.parameters(), *described.buffers()))


def check_sides(what: str, sides: Sequence[Any], patch: Any, batch: int) -> None:
    """Refuse sides of pictures, or numbers of patches, with which a batch would fill the memory.

    Parameters
    ----------
    what : what asks for them, for the error.
    patch : pixels of a patch's side, where patches are counted.
    """
    for side in sides:
        if not isinstance(side, int) or not 0 < side <= SIDE:
            raise UserError(f"{what} has a side of {side} pixels, expected at most {SIDE}")
    longest = max(sides, default=1)
    if isinstance(patch, int) and (count := (longest // max(patch, 1)) ** 2) > PATCHES:
        raise UserError(f"{what} has {count:,} patches, expected at most {PATCHES:,}")
    check_batch(what, 3 * longest**2, batch)


def check_batch(what: str, values: int, batch: int) -> None:
    """Refuse a batch whose pictures have more than `BATCH` bytes of float32 values."""
    if (size := 4 * values * batch) > BATCH:
        raise UserError(
            f"{what} makes {size:,} bytes of {batch} pictures, expected at most {BATCH:,}; set `batch_size` to "
            f"{max(1, BATCH // (4 * values))} or less"
        )


# -- the work ---------------------------------------------------------------------------------------------------------


def of_images(
    tower: Tower,
    preprocess: Callable[[Image.Image], Inputs],
    boxes: Callable[[Inputs, int, int], np.ndarray],
    settings: Any,
    device: torch.device,
    listed: list[Item],
) -> Work:
    """How pictures are read and their features computed.

    Parameters
    ----------
    preprocess : the inputs of one RGB picture.
    boxes : (R, 4) boxes of the patches of a picture by its inputs, its width and its height in pixels; further tokens
        of its row are those of no patch.
    """

    def load(item: Item) -> tuple[Inputs, tuple[int, int]]:
        picture = pictures.read(item.path)
        if max(picture.size) > SLENDER * min(picture.size):
            wide, high = picture.size
            raise UserError(f"{item.path}: is {wide} x {high} pixels, expected sides of 1:{SLENDER} at most; cut it")
        return preprocess(picture), picture.size

    @cache
    def probe() -> Inputs:
        loaded = [inputs for inputs, _ in backbones.first_readable(listed, load)]
        noise = np.random.default_rng(0)
        while len(loaded) < backbones.PROBE:
            loaded.append(preprocess(Image.fromarray(noise.integers(0, 256, (NOISE, NOISE, 3), np.uint8))))
        return _stacked(loaded)

    run, facts = _runner(tower, settings, device, probe)

    def compute(loaded: list[tuple[Inputs, tuple[int, int]]]) -> Any:
        out = run(_stacked([inputs for inputs, _ in loaded]))
        if settings.output == "vector":
            return out
        placed = [boxes(inputs, *size) for inputs, size in loaded]
        for tokens, of in zip(out, placed, strict=True):
            tokens[len(of) :] = 0
        counts = [len(of) for of in placed]
        return out, {
            "count": counts,
            "boxes": [of.round(2).tolist() for of in placed],
            "class": [[""] * count for count in counts],
            "attribute": [[""] * count for count in counts],
            "confidence": [[0.0] * count for count in counts],
        }

    return Work(load, compute, settings.batch_size, facts)


def of_texts(
    tower: Tower, tokenize: Callable[[str], Inputs], settings: Any, device: torch.device, listed: list[Item]
) -> Work:
    """How sentences are read and their features computed.

    Parameters
    ----------
    tokenize : the inputs of one sentence.
    """
    turn = threading.Lock()

    def tokens(sentence: str) -> Inputs:
        with turn:  # tokenizers keep a cache
            try:
                return tokenize(sentence)
            except BaseException as error:  # a panic of Rust is no Exception
                if isinstance(error, Exception) or type(error).__name__ != "PanicException":
                    raise
                raise ValueError(f"its tokenizer fails ({first_line(error)})") from None

    def checked(item: Item) -> str:
        if not item.source.strip():
            raise UserError(f"text item {item.item_id!r} is empty; correct it, or set `on_error: skip`")
        return item.source

    prompts = settings.prompts or ("{}",)

    @cache
    def probe() -> Inputs:
        sources = backbones.first_readable(listed, checked) or ["a photo of a dog"]
        return _stacked([tokens(prompts[0].replace("{}", source)) for source in sources])

    run, facts = _runner(tower, settings, device, probe)
    if not settings.prompts:
        return Work(
            lambda item: tokens(checked(item)), lambda loaded: run(_stacked(loaded)), settings.batch_size, facts
        )
    ensembles: dict[str, np.ndarray] = {}  # names of classes repeat

    def ensemble(source: str) -> np.ndarray:
        sentences = [tokens(prompt.replace("{}", source)) for prompt in prompts]
        parts = [sentences[n : n + settings.batch_size] for n in range(0, len(sentences), settings.batch_size)]
        mean = np.concatenate([run(_stacked(part)) for part in parts]).mean(0)
        return mean / np.linalg.norm(mean) if settings.l2 else mean

    def compute(sources: list[str]) -> np.ndarray:
        of = {source: ensembles[source] if source in ensembles else ensemble(source) for source in {*sources}}
        if len(ensembles) < KEPT:
            ensembles.update(of)
        return np.stack([of[source] for source in sources])

    return Work(checked, compute, settings.batch_size, facts)


def _stacked(loaded: list[Inputs]) -> Inputs:
    return {name: torch.stack([inputs[name] for inputs in loaded]) for name in loaded[0]}


def _runner(
    tower: Tower, settings: Any, device: torch.device, probe: Callable[[], Inputs]
) -> tuple[Callable[[Inputs], np.ndarray], dict[str, Any]]:
    """A function from a batch of inputs to features, and the precision and device it runs with."""

    @torch.inference_mode()
    def forward(net: nn.Module, inputs: Inputs, precision: str) -> Tensor:
        floats = torch.bfloat16 if precision == "bf16" else torch.float32
        moved = {
            name: value.to(device, floats if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }
        return net(moved)

    net, precision = backbones.ready(tower, settings, device, lambda net, p: forward(net, probe(), p), fold=False)
    run = backbones.in_turn(device, lambda inputs: forward(net, inputs, precision).cpu().numpy())
    return run, {"precision": precision, "device": device.type}


def patch_boxes(
    wide: int, high: int, size: tuple[int, int], grid: tuple[int, int], mode: str, short: int | None = None
) -> np.ndarray:
    """(R, 4) boxes of an image's patches in pixels of its file, row by row, cut at its edges.

    Parameters
    ----------
    wide, high : pixels of the file.
    size : (height, width) in pixels of what the tower sees.
    grid : number of patches down and across.
    mode : how the picture was brought to that size: `shortest` (the short side is scaled and the middle cut out),
        `longest` (the long side is scaled and the rest filled up) or `squash`.
    short : pixels of the scaled short side of `shortest`; None: those of the crop.
    """
    if mode == "squash":
        scale = np.array([size[1] / wide, size[0] / high])
    elif short is not None:
        scale = np.full(2, short / min(wide, high))
    else:
        pick = max if mode == "shortest" else min
        scale = np.full(2, pick(size[1] / wide, size[0] / high))
    start = (np.array([wide, high]) * scale - np.array([size[1], size[0]])) / 2  # of the crop in the scaled picture
    down, across = (np.linspace(0, side, cells + 1) for side, cells in zip(size, grid, strict=True))
    top, left = (edges.ravel() for edges in np.meshgrid(down[:-1], across[:-1], indexing="ij"))
    bottom, right = (edges.ravel() for edges in np.meshgrid(down[1:], across[1:], indexing="ij"))
    boxes = (np.stack([left, top, right, bottom], 1) + np.tile(start, 2)) / np.tile(scale, 2)
    return boxes.clip(0, np.tile([wide, high], 2))

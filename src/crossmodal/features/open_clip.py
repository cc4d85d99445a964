"""Image and text vectors of CLIP and its successors, by open_clip (`pip install 'crossmodal[open-clip]'`).

One model has two towers whose vectors share a space (Radford et al., 2021: Learning Transferable Visual Models From
Natural Language Supervision, ICML). The modality of the items decides which tower is used; preprocessing and tokenizer
are the model's own. With `output: patches` an image is the set of its last patch tokens, in the form of regions, so
that systems which attend to regions can read them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.core import pictures
from crossmodal.core.errors import UserError, first_line, suggestion
from crossmodal.core.files import sha256_file
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.networks import backbones

log = logging.getLogger(__name__)

CONFIG = "open_clip_config.json"
FILES = tuple(
    f"{stem}{end}"
    for stem, ends in (
        ("open_clip_model", (".safetensors",)),
        ("open_clip_pytorch_model", (".safetensors", ".bin", ".pth")),
        ("model", (".safetensors", ".pth")),
        ("pytorch_model", (".bin", ".pth")),
    )
    for end in ends
)
"""Names of the weights in a model's folder, the preferred ones first."""


class Settings(extraction.Settings):
    """Settings of the extractor: a model, its weights, and what is taken of an image."""

    model: str = Field(description=f"a name that open_clip knows (ViT-B-32), or a folder with {CONFIG}")
    weights: str | None = Field(
        None,
        description="a file of open_clip's weights (.safetensors or .pt), with `download` one of open_clip's names "
        "(laion2b_s34b_b79k), or seeded; null: the file in the model's folder",
    )
    download: bool = Field(
        False, description="whether open_clip may fetch the weights of that name, or a tokenizer, from the network"
    )
    output: Literal["vector", "patches"] = Field(
        "vector",
        description="vector: the tower's vector; patches: of images, the last tokens of the patches as regions, before "
        "the projection to the common space",
    )
    l2: bool = Field(True, description="whether vectors, or the features of each patch, are scaled to unit length")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="precision of the forward pass; auto: bf16 where the processor supports it"
    )
    seed: int = Field(0, description="seed of the weights where `weights` is seeded")
    batch_size: int = Field(16, ge=1, description="number of items per forward pass of one thread")

    @property
    def network(self) -> str:
        """The model's name, as other networks are called in the log."""
        return self.model


class Tower(nn.Module):
    """One tower of a model, from its inputs to (B, D) vectors or (B, N, D) patch tokens, scaled to unit length or not.

    Parameters
    ----------
    images : whether it is the image tower.
    """

    def __init__(self, model: nn.Module, settings: Settings, *, images: bool):
        super().__init__()
        self.model, self.images, self.settings = model, images, settings

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, 3, H, W) normalised pixels, or (B, L) token ids."""
        if not self.images:
            out = self.model.encode_text(inputs)
        elif self.settings.output == "patches":
            _, out = self.model.visual(inputs)
        else:
            out = self.model.encode_image(inputs)
        out = out.float()
        return nn.functional.normalize(out, dim=-1) if self.settings.l2 else out


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of images or captions, or the (N, R, D) tokens of the R patches of images.

    With `output: patches` the index has the columns that regions have: `count`, `boxes` (x1, y1, x2, y2 in pixels of
    the file), and `class`, `attribute` and `confidence`, which are empty.

    Raises
    ------
    UserError : open_clip is not installed, the model or its weights cannot be loaded, or an item is bad.
    """
    if given.modality not in ("image", "text"):
        raise UserError(
            f"params.yaml: extractors.*.modality: the extractor 'open_clip' reads image and text items, found "
            f"{given.modality!r}; set `modality: image` or `modality: text`"
        )
    images = given.modality == "image"
    if settings.output == "patches" and not images:
        raise UserError("extractors.*.output: `patches` are those of images, found text items; set `output: vector`")
    library = _library()
    model, facts = _built(library, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.output == "patches":
        _give_tokens(model, settings)
    tower = Tower(model, settings, images=images)
    if images:
        transform = library.transform
        seen = transform.PreprocessCfg(**model.visual.preprocess_cfg)
        preprocess = transform.image_transform_v2(seen, is_train=False)
        facts["transform"] = dict(model.visual.preprocess_cfg)
        return Recipe(
            lambda listed: _images(tower, preprocess, settings, device, listed),
            facts,
            packages=("open_clip_torch", "torchvision", "pillow"),
        )
    tokenizer = _tokenizer(library, settings)
    facts["context_length"] = model.context_length
    return Recipe(
        lambda listed: _texts(tower, tokenizer, settings, device, listed), facts, packages=("open_clip_torch",)
    )


# -- the model --------------------------------------------------------------------------------------------------------


def _library() -> ModuleType:
    try:
        import open_clip
    except ImportError:
        raise UserError("extractor: open_clip needs a further package: pip install 'crossmodal[open-clip]'") from None
    return open_clip


def _check_model(library: ModuleType, settings: Settings) -> None:
    """Refuse a model whose configuration is unknown, or needs the network without `download`."""
    folder = Path(settings.model)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(f"extractors.*.model: the folder {settings.model!r} has no {CONFIG}")
    elif settings.model not in library.list_models():
        raise UserError(
            f"extractors.*.model: {settings.model!r} is neither a folder nor a model of open_clip"
            + suggestion(settings.model, library.list_models())
        )
    try:
        config = library.get_model_config(_name(settings))
        text = config.get("text_cfg", {})
        fetched = [text[key] for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)]
    except Exception as error:  # a damaged JSON, or one of another form
        raise UserError(f"{folder / CONFIG}: is not the configuration of an open_clip model ({error})") from None
    if folder.is_dir() and not text.get("hf_model_name"):
        fetched = []  # the tokenizer lies in the folder too
    if fetched and not settings.download:
        raise UserError(
            f"extractors.*.model: the text tower of {settings.model!r} needs {', '.join(fetched)} from the network; "
            "set `download: true`, or name a folder which holds the model and its tokenizer"
        )


def _name(settings: Settings) -> str:
    """The model in open_clip's own notation."""
    return f"local-dir:{settings.model}" if Path(settings.model).is_dir() else settings.model


def _built(library: ModuleType, settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The model with its weights, in evaluation mode, and a description of them for the manifest."""
    _check_model(library, settings)
    path = _file(settings)
    tags = library.list_pretrained_tags_by_model(settings.model)
    facts: dict[str, Any] = {"model": Path(settings.model).name}
    options: dict[str, Any] = {"precision": "fp32", "pretrained_image": False, "pretrained_text": False}
    try:
        if settings.weights == "seeded":
            with _quiet(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                model = library.create_model(_name(settings), load_weights=False, **options)
            facts |= {"weights": "seeded", "fallback": "seeded random weights"}
            log.warning("%s: %s, not trained on anything", settings.model, facts["fallback"])
        elif path.is_file():
            backbones.read_state(path)  # refuses all that is more than arrays and names before the library reads it
            with _quiet():
                model = library.create_model(_name(settings), load_weights=False, **options)
            library.load_checkpoint(model, str(path))
            facts |= {"weights": path.name, "file_sha256": sha256_file(path)}
        elif settings.download and settings.weights in tags:
            model = library.create_model(settings.model, pretrained=settings.weights, **options)
            facts["weights"] = settings.weights
        else:
            known = f"; open_clip's names are {', '.join(tags)}, fetched with `download: true`" if tags else ""
            raise UserError(f"extractors.*.weights: {settings.weights!r} is no file{known}; or set `weights: seeded`")
    except UserError:
        raise
    except Exception as error:  # the library does not document what a broken file or a failed download raises
        raise UserError(
            f"extractors.*.weights: {settings.weights or settings.model!r} cannot be loaded as {settings.model!r} "
            f"({first_line(error)})"
        ) from None
    model = model.float().eval()
    return model, facts | {"weights_sha256": backbones.hash_of(model)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the library's warnings that a model has random weights, since they are loaded or told of after it."""

    def others(record: logging.LogRecord) -> bool:
        return record.module != "factory"

    root = logging.getLogger()
    root.addFilter(others)
    try:
        yield
    finally:
        root.removeFilter(others)


def _file(settings: Settings) -> Path:
    """The file of the weights: the one that is named, or the preferred one in the model's folder."""
    if settings.weights is not None:
        return Path(settings.weights)
    folder = Path(settings.model)
    if not folder.is_dir():
        raise UserError(
            f"extractors.*.weights: missing for the model {settings.model!r}, which is no folder; name a file, "
            "`seeded`, or one of open_clip's names with `download: true`"
        )
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"extractors.*.weights: the folder {settings.model!r} has none of {', '.join(FILES)}; name the file, or set "
        "`weights: seeded`"
    )


def _give_tokens(model: nn.Module, settings: Settings) -> None:
    """Make the image tower return its patch tokens beside its vector."""
    visual = model.visual
    if not hasattr(visual, "output_tokens") or getattr(visual, "attn_pool", None) is not None:
        raise UserError(
            f"extractors.*.output: the image tower of {settings.model!r} has no patch tokens that open_clip gives; "
            "choose a vision transformer (ViT-B-32), or set `output: vector`"
        )
    visual.output_tokens = True


def _tokenizer(library: ModuleType, settings: Settings) -> Callable[[list[str]], Tensor]:
    try:
        return library.get_tokenizer(_name(settings))
    except Exception as error:  # a package or a file of the tokenizer is missing
        raise UserError(
            f"extractors.*.model: the tokenizer of {settings.model!r} cannot be loaded ({first_line(error)})"
        ) from None


# -- the work ---------------------------------------------------------------------------------------------------------


def _images(
    tower: Tower, preprocess: Callable[..., Tensor], settings: Settings, device: torch.device, listed: list[Item]
) -> Work:
    def load(item: Item) -> tuple[Tensor, tuple[int, int]]:
        picture = pictures.read(item.path)
        return preprocess(picture), picture.size

    visual = tower.model.visual
    size = tuple(visual.image_size) if isinstance(visual.image_size, tuple | list) else (visual.image_size,) * 2

    @cache
    def probe() -> Tensor:
        pixels = [pixels for pixels, _ in backbones.first_readable(listed, load)]
        if len(pixels) < backbones.PROBE:
            return torch.randn(backbones.PROBE, 3, *size, generator=torch.Generator().manual_seed(0))
        return torch.stack(pixels)

    run, facts = _runner(tower, settings, device, probe)

    def compute(loaded: list[tuple[Tensor, tuple[int, int]]]) -> Any:
        out = run(torch.stack([pixels for pixels, _ in loaded]))
        if settings.output == "vector":
            return out
        boxes = [
            patch_boxes(wide, high, size, visual.grid_size, visual.preprocess_cfg["resize_mode"])
            for _, (wide, high) in loaded
        ]
        count = out.shape[1]
        return out, {
            "count": [count] * len(out),
            "boxes": [box.round(2).tolist() for box in boxes],
            "class": [[""] * count] * len(out),
            "attribute": [[""] * count] * len(out),
            "confidence": [[0.0] * count] * len(out),
        }

    return Work(load, compute, settings.batch_size, facts)


def _texts(
    tower: Tower,
    tokenizer: Callable[[list[str]], Tensor],
    settings: Settings,
    device: torch.device,
    listed: list[Item],
) -> Work:
    turn = threading.Lock()

    def load(item: Item) -> Tensor:
        if not item.source.strip():
            raise UserError(f"text item {item.item_id!r} is empty; correct it, or set `on_error: skip`")
        with turn:  # tokenizers keep a cache
            return tokenizer([item.source])[0]

    @cache
    def probe() -> Tensor:
        return torch.stack(backbones.first_readable(listed, load) or [tokenizer(["a photo of a dog"])[0]])

    run, facts = _runner(tower, settings, device, probe)
    return Work(load, lambda loaded: run(torch.stack(loaded)), settings.batch_size, facts)


def _runner(
    tower: Tower, settings: Settings, device: torch.device, probe: Callable[[], Tensor]
) -> tuple[Callable[[Tensor], np.ndarray], dict[str, Any]]:
    """A function from a batch of inputs to features, and the precision and device it runs with."""

    @torch.inference_mode()
    def forward(net: nn.Module, inputs: Tensor, precision: str) -> Tensor:
        kind = torch.bfloat16 if precision == "bf16" and inputs.is_floating_point() else inputs.dtype
        return net(inputs.to(device, kind))

    net, precision = backbones.ready(tower, settings, device, lambda net, p: forward(net, probe(), p), fold=False)
    turn = threading.Lock()

    def run(inputs: Tensor) -> np.ndarray:
        if device.type != "cuda":
            return forward(net, inputs, precision).numpy()
        with turn:
            return forward(net, inputs, precision).cpu().numpy()

    return run, {"precision": precision, "device": device.type}


def patch_boxes(wide: int, high: int, size: tuple[int, int], grid: tuple[int, int], mode: str) -> np.ndarray:
    """(R, 4) boxes of an image's patches in pixels of its file, row by row, cut at its edges.

    Parameters
    ----------
    wide, high : pixels of the file.
    size : (height, width) in pixels of what the tower sees.
    grid : number of patches down and across.
    mode : how the picture was brought to that size: `shortest` (the short side is scaled and the middle cut out),
        `longest` (the long side is scaled and the rest filled up) or `squash`.
    """
    if mode == "squash":
        scale = np.array([size[1] / wide, size[0] / high])
    else:
        pick = max if mode == "shortest" else min
        scale = np.full(2, pick(size[1] / wide, size[0] / high))
    start = (np.array([wide, high]) * scale - np.array([size[1], size[0]])) / 2  # of the crop in the scaled picture
    down, across = (np.linspace(0, side, cells + 1) for side, cells in zip(size, grid, strict=True))
    top, left = (edges.ravel() for edges in np.meshgrid(down[:-1], across[:-1], indexing="ij"))
    bottom, right = (edges.ravel() for edges in np.meshgrid(down[1:], across[1:], indexing="ij"))
    boxes = (np.stack([left, top, right, bottom], 1) + np.tile(start, 2)) / np.tile(scale, 2)
    return boxes.clip(0, np.tile([wide, high], 2))

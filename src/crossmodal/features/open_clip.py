"""Image and text vectors of CLIP and its successors, by open_clip (`pip install 'crossmodal[open-clip]'`).

One model has two towers whose vectors share a space (Radford et al., 2021: Learning Transferable Visual Models From
Natural Language Supervision, ICML). The modality of the items decides which tower is used; preprocessing and tokenizer
are the model's own. With `output: patches` an image is the set of its last patch tokens, in the form of regions, so
that systems which attend to regions can read them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.core import limits
from crossmodal.core.errors import UserError, first_line, suggestion
from crossmodal.core.files import check_small, sha256_file
from crossmodal.features.engine.extraction import Given, Recipe
from crossmodal.features.networks import backbones, tokenizers, towers

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


class Settings(towers.Settings):
    """Settings of the extractor: a model, its weights, and what is taken of an image."""

    model: str = Field(
        description=f"a name that open_clip knows (ViT-B-32), a folder with {CONFIG}, or world: small towers that come "
        "with this package and were trained on another seed of the drawn world"
    )
    weights: str | None = Field(
        None,
        description="a file of open_clip's weights (.safetensors or .pt), with `download` one of open_clip's names "
        "(laion2b_s34b_b79k), or seeded; null: the file in the model's folder",
    )
    download: bool = Field(
        False, description="whether open_clip may fetch the weights of that name, or a tokenizer, from the network"
    )

    @property
    def network(self) -> str:
        """The model's name, as other networks are called in the log."""
        return self.model

    @property
    def folder(self) -> Path:
        """The folder of the model, which is missing where the model is one of open_clip's names."""
        return backbones.WORLD_CLIP if self.model == "world" else Path(self.model)


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of images or captions, or the (N, R, D) tokens of the R patches of images.

    With `output: patches` the index has the columns that regions have: `count`, `boxes` (x1, y1, x2, y2 in pixels of
    the file), and `class`, `attribute` and `confidence`, which are empty.

    Raises
    ------
    UserError : open_clip is not installed, the model or its weights cannot be loaded, or an item is bad.
    """
    towers.check_request("open_clip", settings, given.modality)
    library = _library()
    model, facts = _built(library, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.output == "patches":
        _give_tokens(model, settings)
    if given.modality == "image":
        tower = towers.Tower(model, _tokens if settings.output == "patches" else _image_vectors, l2=settings.l2)
        transform = library.transform
        seen = transform.PreprocessCfg(**model.visual.preprocess_cfg)
        sides = [*seen.size] if isinstance(seen.size, tuple | list) else [seen.size]
        towers.check_sides(f"extractors.*.model: {settings.model!r}", sides, None, settings.batch_size)
        preprocess = transform.image_transform_v2(seen, is_train=False)
        facts["transform"] = dict(model.visual.preprocess_cfg)
        return Recipe(
            lambda listed: towers.of_images(
                tower, lambda picture: {"image": preprocess(picture)}, _boxes(model.visual), settings, device, listed
            ),
            facts,
            packages=("open_clip_torch", "torchvision", "pillow"),
        )
    tower = towers.Tower(model, _text_vectors, l2=settings.l2)
    tokenizer = _tokenizer(library, settings)
    facts["context_length"] = model.context_length
    return Recipe(
        lambda listed: towers.of_texts(
            tower, lambda sentence: {"text": tokenizer([sentence])[0]}, settings, device, listed
        ),
        facts,
        packages=("open_clip_torch",),
    )


def sentences(settings: Settings) -> towers.Sentences:
    """The text tower, for its export.

    Raises
    ------
    UserError : as `recipe`, or the tokenizer cannot be read without open_clip.
    """
    library = _library()
    model, _ = _built(library, settings)
    tokenizer = _tokenizer(library, settings)

    def tokenize(sentence: str) -> towers.Inputs:
        return {"text": tokenizer([sentence])[0]}

    tower = towers.Tower(model, _text_vectors, l2=settings.l2)
    return towers.Sentences(tower, ("text",), tokenize, *_without_the_library(library, settings, tokenizer))


def _without_the_library(library: ModuleType, settings: Settings, tokenizer: Any) -> tuple[str, str]:
    """The JSON of a tokenizer, and the name of the function that cleans sentences before it."""
    kinds, where = library.tokenizer, f"extractors.*.model: {settings.model!r}"
    clean = {kinds.get_clean_fn(name): name for name in ("lower", "whitespace", "canonicalize")}.get(
        getattr(tokenizer, "clean_fn", None)
    )
    plain = not (getattr(tokenizer, "strip_sep_token", False) or getattr(tokenizer, "tokenizer_mode", ""))
    if type(tokenizer) is kinds.HFTokenizer and clean and plain:
        tokenizer(["a photo"])
        return towers.json_of(tokenizer.tokenizer, where), clean
    if type(tokenizer) is kinds.SimpleTokenizer and clean and tokenizer.reduction_fn is None:
        return _json_of_clip(tokenizer), clean
    raise UserError(f"{where}: its tokenizer {type(tokenizer).__name__} cannot be read without its library")


def _json_of_clip(tokenizer: Any) -> str:
    """CLIP's own tokenizer, byte pairs of the words that its expression finds, in the JSON of `tokenizers`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    first, last = (tokenizer.decoder[number] for number in (tokenizer.sot_token_id, tokenizer.eot_token_id))
    pairs = models.BPE(tokenizer.encoder, [*tokenizer.bpe_ranks], end_of_word_suffix="</w>")
    one = Tokenizer(pairs)
    one.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i){tokenizer.pat.pattern}"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    one.decoder = decoders.ByteLevel()
    one.add_special_tokens([AddedToken(name, normalized=False) for name in (first, last)])
    ends = [(first, tokenizer.sot_token_id), (last, tokenizer.eot_token_id)]
    one.post_processor = processors.TemplateProcessing(f"{first}:0 $A:0 {last}:0", special_tokens=ends)
    one.enable_truncation(tokenizer.context_length)
    one.enable_padding(length=tokenizer.context_length, pad_id=0, pad_token=tokenizer.decoder[0])
    return one.to_str()


def _image_vectors(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    return model.encode_image(inputs["image"])


def _text_vectors(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    return model.encode_text(inputs["text"])


def _tokens(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    return model.visual(inputs["image"])[1]


def _boxes(visual: nn.Module) -> Callable[[towers.Inputs, int, int], np.ndarray]:
    size = tuple(visual.image_size) if isinstance(visual.image_size, tuple | list) else (visual.image_size,) * 2
    mode = visual.preprocess_cfg["resize_mode"]
    return lambda inputs, wide, high: towers.patch_boxes(wide, high, size, visual.grid_size, mode)


# -- the model --------------------------------------------------------------------------------------------------------


def _library() -> ModuleType:
    try:
        import open_clip
    except ImportError:
        raise UserError("extractor: open_clip needs a further package: pip install 'crossmodal[open-clip]'") from None
    return open_clip


def _check_model(library: ModuleType, settings: Settings) -> None:
    """Refuse a model whose configuration is unknown, or needs the network without `download`."""
    folder = settings.folder
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(f"extractors.*.model: the folder {settings.model!r} has no {CONFIG}")
        check_small(folder / CONFIG, "record_bytes", limits.current().record_bytes)
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
    if folder.is_dir():
        _check_config(folder / CONFIG, config)
        if not text.get("hf_model_name"):
            fetched = []  # the tokenizer lies in the folder too
    if fetched and not settings.download:
        raise UserError(
            f"extractors.*.model: the text tower of {settings.model!r} needs {', '.join(fetched)} from the network; "
            "set `download: true`, or name a folder which holds the model and its tokenizer"
        )


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """Refuse what a folder's configuration could make the libraries fetch, open elsewhere or run, or never end."""
    tower, text = ({}, {}) if not isinstance(config, dict) else (config.get("vision_cfg"), config.get("text_cfg"))
    if not (isinstance(tower, dict) and isinstance(text, dict)):
        raise UserError(f"{path}: is not the configuration of an open_clip model; fetch the model again")
    given = text.get("tokenizer_kwargs") or {}
    further = sorted(map(str, {*given} - {"clean", "strip_sep_token"})) if isinstance(given, dict) else [str(given)]
    if further:  # they go to a library that runs code of the folder if one of them says so
        raise UserError(f"{path}: text_cfg.tokenizer_kwargs: {further[0][:80]!r} is not permitted; take it out")
    for name, value in (*tower.items(), *text.items()):
        is_name = isinstance(value, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", value)
        if name in ("timm_model_name", "hf_model_name", "hf_tokenizer_name") and value and not is_name:
            raise UserError(f"{path}: {name}: found {str(value)[:80]!r}, expected a name, not an address or a path")
    for part in (value for value in config.values() if isinstance(value, dict)):
        layers = part.get("layers", 1)
        for count in layers if isinstance(layers, list) else [layers]:
            towers.check_layers(str(path), count)


def _described(library: ModuleType, settings: Settings, options: dict[str, Any]) -> nn.Module:
    """The model without memory, by which its size is judged before it takes any."""
    with _quiet(), torch.device("meta"):
        return library.create_model(_name(settings), load_weights=False, device="meta", **options)


def _name(settings: Settings) -> str:
    """The model in open_clip's own notation."""
    return f"local-dir:{settings.folder}" if settings.folder.is_dir() else settings.model


def _built(library: ModuleType, settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The model with its weights, in evaluation mode, and a description of them for the manifest."""
    _check_model(library, settings)
    path = _file(settings)
    tags = library.list_pretrained_tags_by_model(settings.model)
    facts: dict[str, Any] = {"model": Path(settings.model).name}
    options: dict[str, Any] = {"precision": "fp32", "pretrained_image": False, "pretrained_text": False}
    try:
        if settings.weights == "seeded":
            towers.check_seeded(_described(library, settings, options), settings.model)
            with _quiet(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                model = library.create_model(_name(settings), load_weights=False, **options)
            facts |= {"weights": "seeded", "fallback": "seeded random weights"}
            log.warning("%s: %s, not trained on anything", settings.model, facts["fallback"])
        elif path.is_file():
            described = _described(library, settings, options)
            towers.check_size(described, settings.model, path.name, path.stat().st_size)
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
    """Leave out what the library says of the steps of loading, and that a model has random weights before they are."""

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
    folder = settings.folder
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
        text = library.get_model_config(_name(settings)).get("text_cfg", {})
        with _quiet():
            if not text.get("hf_tokenizer_name"):
                return library.get_tokenizer(_name(settings))
            if not settings.folder.is_dir():
                return library.get_tokenizer(_name(settings), trust_remote_code=False)
            with tokenizers.checked(settings.folder, also=(CONFIG,)) as place:
                return library.get_tokenizer(f"local-dir:{place}", trust_remote_code=False)  # or the library may ask
    except UserError:
        raise
    except Exception as error:  # a package or a file of the tokenizer is missing
        raise UserError(
            f"extractors.*.model: the tokenizer of {settings.model!r} cannot be loaded ({first_line(error)})"
        ) from None

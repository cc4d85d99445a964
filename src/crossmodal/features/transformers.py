"""Image and text vectors of a folder in Hugging Face's layout, by transformers (`crossmodal[transformers]`).

The folder holds `config.json`, the weights, and the settings of the image processor or the tokenizer, as
`save_pretrained` writes them. The modality of the items decides which tower is used: CLIP (Radford et al., 2021),
SigLIP (Zhai et al., 2023), SigLIP 2 (Tschannen et al., 2025) and BLIP (Li et al., 2022) have both, DINOv2 (Oquab et
al., 2024) and DINOv3 have that of images. No code of a folder is run, and weights are read as arrays only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.core import limits
from crossmodal.core.errors import UserError, first_line, suggestion
from crossmodal.core.files import check_small, read_record
from crossmodal.features.engine.extraction import Given, Recipe
from crossmodal.features.networks import backbones, tokenizers, towers

log = logging.getLogger(__name__)

BOTH = ("clip", "siglip", "siglip2", "blip")
IMAGES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
RETRIEVAL = "BlipForImageTextRetrieval"  # the class of BLIP's published retrieval models
WHOLE = ("siglip", "siglip2")  # their vector is that of the last of all tokens, which may not be cut off
SMALL_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
FETCHED = ("*.json", "*.txt", "*.model", "*.safetensors")
PROCESSORS = re.compile(r"(CLIP|Siglip2?|Blip|Bit|DINOv3ViT|ViT)(ImageProcessor|FeatureExtractor)(Fast|Pil)?")
KERNELS = ("eager", "sdpa", "flash_attention_2", "flex_attention")  # the library's own; others come from the hub


class Settings(towers.Settings):
    """Settings of the extractor: a model, its weights, and what is taken of an image."""

    model: str = Field(
        description="a folder with config.json, or with `download` a name on the Hugging Face hub "
        "(google/siglip2-base-patch16-224)"
    )
    weights: Literal["seeded"] | None = Field(None, description="null: those in the folder; seeded: random ones")
    download: bool = Field(False, description="whether a model of that name may be fetched from the network")

    @property
    def network(self) -> str:
        """The model's name, as other networks are called in the log."""
        return self.model


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of images or captions, or the (N, R, D) tokens of the R patches of images.

    A vector is what the model compares: of CLIP and BLIP after the projection to the common space, of DINOv2 the
    normalised class token. Patch tokens are those of the library's `last_hidden_state`. With `output: patches` the
    index has the columns that regions have: `count`, `boxes` (x1, y1, x2, y2 in pixels of the file), and `class`,
    `attribute` and `confidence`, which are empty.

    Raises
    ------
    UserError : transformers is not installed, the model or its weights cannot be loaded, or an item is bad.
    """
    towers.check_request("transformers", settings, given.modality)
    library = _library()
    folder = _folder(settings)
    config = _config(library, folder)
    images = given.modality == "image"
    if not images and config.model_type in IMAGES:
        raise UserError(
            f"{folder / 'config.json'}: a model of the type {config.model_type!r} has no text tower; set "
            f"`modality: image`, or name a model of {', '.join(BOTH)}"
        )
    model, facts = _built(library, folder, config, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if images:
        processor = _processor(library, folder)
        transform = processor.to_dict()
        _check_sizes(folder, transform, _part(config, "vision_config").patch_size, settings.batch_size)
        facts["transform"] = {key: value for key, value in sorted(transform.items()) if _is_plain(value)}
        tower = towers.Tower(model, _tokens if settings.output == "patches" else _image_vectors, l2=settings.l2)

        def preprocess(picture: Any) -> towers.Inputs:
            return {name: value[0] for name, value in processor(images=picture, return_tensors="pt").items()}

        boxes = _boxes(_part(config, "vision_config").patch_size, transform)
        return Recipe(
            lambda listed: towers.of_images(tower, preprocess, boxes, settings, device, listed),
            facts,
            packages=("transformers", "torchvision", "pillow"),
        )
    tower = towers.Tower(model, _text_vectors, l2=settings.l2)
    facts["context_length"] = _part(config, "text_config").max_position_embeddings
    _, tokenize = _tokenizer(library, folder, config.model_type, facts["context_length"])
    return Recipe(
        lambda listed: towers.of_texts(tower, tokenize, settings, device, listed),
        facts,
        packages=("transformers", "tokenizers"),
    )


def sentences(settings: Settings) -> towers.Sentences:
    """The text tower, for its export.

    Raises
    ------
    UserError : as `recipe`, or the tokenizer cannot be read without transformers.
    """
    library = _library()
    folder = _folder(settings)
    config = _config(library, folder)
    tokenizer, tokenize = _tokenizer(
        library, folder, config.model_type, _part(config, "text_config").max_position_embeddings
    )
    names = tuple(tokenize("a photo"))
    text = towers.json_of(tokenizer, str(folder))
    model, _ = _built(library, folder, config, settings)
    return towers.Sentences(towers.Tower(model, _text_vectors, l2=settings.l2), names, tokenize, text)


# -- the towers -------------------------------------------------------------------------------------------------------


def _image_vectors(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    if model.config.model_type in IMAGES:
        return model(**inputs).pooler_output
    if _is_retrieval(model):
        return model.vision_proj(model.vision_model(**inputs).last_hidden_state[:, 0])
    return model.get_image_features(**inputs).pooler_output


def _text_vectors(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    cut = "attention_mask" in inputs and model.config.model_type not in WHOLE
    if cut and not torch.onnx.is_in_onnx_export():  # a trace would hold fast to the length of its example
        longest = int(inputs["attention_mask"].any(0).nonzero().max()) + 1
        inputs = {name: value[:, :longest] for name, value in inputs.items()}
    if _is_retrieval(model):
        return model.text_proj(model.text_encoder(**inputs).last_hidden_state[:, 0])
    return model.get_text_features(**inputs).pooler_output


def _tokens(model: nn.Module, inputs: towers.Inputs) -> Tensor:
    tokens = getattr(model, "vision_model", model)(**inputs).last_hidden_state
    if "spatial_shapes" in inputs:  # patches of pictures of any aspect ratio, filled up
        return tokens
    patch = _part(model.config, "vision_config").patch_size
    high, wide = inputs["pixel_values"].shape[-2:]
    return tokens[:, -(high // patch) * (wide // patch) :]  # behind the class token and registers


def _is_retrieval(model: nn.Module) -> bool:
    return type(model).__name__ == RETRIEVAL


def _boxes(patch: int, transform: dict[str, Any]) -> Callable[[towers.Inputs, int, int], np.ndarray]:
    """The boxes of a picture's patches, by how the image processor brings it to the size that the tower sees."""
    resized = transform.get("size") if transform.get("do_resize") else None
    mode = "shortest" if transform.get("do_center_crop") else "squash"
    short = resized["shortest_edge"] if mode == "shortest" and resized and "shortest_edge" in resized else None

    def boxes(inputs: towers.Inputs, wide: int, high: int) -> np.ndarray:
        if "spatial_shapes" in inputs:
            grid = tuple(inputs["spatial_shapes"].tolist())
            return towers.patch_boxes(wide, high, (grid[0] * patch, grid[1] * patch), grid, "squash")
        size = tuple(inputs["pixel_values"].shape[-2:])
        grid = size[0] // patch, size[1] // patch
        return towers.patch_boxes(wide, high, size, grid, mode, short)

    return boxes


# -- the model --------------------------------------------------------------------------------------------------------


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise UserError(
            "extractor: transformers needs a further package: pip install 'crossmodal[transformers]'"
        ) from None
    if int(transformers.__version__.split(".")[0]) < 5:
        raise UserError(
            f"extractor: transformers needs version 5 or newer, found {transformers.__version__}: pip install "
            "'crossmodal[transformers]'"
        )
    return transformers


def _folder(settings: Settings) -> Path:
    """The model's folder, fetched first where `download` permits it."""
    folder = Path(settings.model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"extractors.*.model: the folder {settings.model!r} has no config.json")
        return folder
    if not settings.download or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", settings.model):
        raise UserError(
            f"extractors.*.model: {settings.model!r} is no folder; name one in Hugging Face's layout, or a model of "
            "the hub (such as google/siglip2-base-patch16-224) with `download: true`"
        )
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(settings.model, allow_patterns=list(FETCHED)))
    except Exception as error:  # the library does not document what a failed download raises
        raise UserError(
            f"extractors.*.model: {settings.model!r} cannot be fetched ({first_line(error)}); place its files in a "
            "folder, and name that"
        ) from None


def _config(library: ModuleType, folder: Path) -> Any:
    """The model's configuration, after checking what it could make the library fetch, run, or never end."""
    path = folder / "config.json"
    for name in SMALL_FILES:
        check_small(folder / name, "record_bytes", limits.current().record_bytes)
    raw = read_record(path)
    kind = raw.get("model_type")
    if kind not in (*BOTH, *IMAGES):
        raise UserError(
            f"{path}: model_type: {str(kind)[:80]!r} is none of {', '.join((*BOTH, *IMAGES))}"
            + suggestion(str(kind)[:80], (*BOTH, *IMAGES))
        )
    if "quantization_config" in raw or (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: holds quantised weights or an adapter; name the folder of the whole model in floats"
        )
    for part in (raw, raw.get("text_config"), raw.get("vision_config")):
        if isinstance(part, dict) and part.get("num_hidden_layers") is not None:
            towers.check_layers(str(path), part["num_hidden_layers"])
        for key, value in part.items() if isinstance(part, dict) else ():
            of_kernels = key.startswith(("_attn_implementation", "_experts_implementation"))
            if of_kernels and isinstance(value, str | dict) and value not in KERNELS:
                raise UserError(f"{path}: {key}: {str(value)[:80]!r} is none of {', '.join(KERNELS)}; take it out")
    try:
        return library.AutoConfig.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="eager" if kind == "blip" else "sdpa",  # none of the hub's, which the file may name
        )
    except Exception as error:  # the library does not document what a damaged configuration raises
        raise UserError(
            f"{path}: is no configuration of a model ({first_line(error)}); fetch the model again"
        ) from None


def _part(config: Any, name: str) -> Any:
    """The configuration of a tower: a part of the model's, or all of it."""
    return getattr(config, name, config)


def _built(library: ModuleType, folder: Path, config: Any, settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The model with its weights, in evaluation mode, and a description of them for the manifest."""
    kind, build = library.AutoModel, library.AutoModel.from_config
    if config.model_type == "blip" and RETRIEVAL in (config.architectures or ()):
        kind = build = getattr(library, RETRIEVAL)
    facts: dict[str, Any] = {"model": folder.name, "type": config.model_type}
    try:
        if settings.weights == "seeded":
            with torch.device("meta"):
                towers.check_seeded(build(config), folder.name)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                model = build(config)
            facts |= {"weights": "seeded", "fallback": "seeded random weights"}
            log.warning("%s: %s, not trained on anything", settings.model, facts["fallback"])
        else:
            files = _files(folder)
            stored = sum(path.stat().st_size for path in files)
            with torch.device("meta"):
                towers.check_size(build(config), folder.name, files[0].name, stored)
            for path in files:
                backbones.read_state(path)  # refuses all that is more than arrays and names
            with _quiet(library):
                model, told = kind.from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    local_files_only=True,
                    use_safetensors=files[0].suffix == ".safetensors",
                    weights_only=True,
                    output_loading_info=True,
                )
            if missing := sorted(told["missing_keys"]):
                raise UserError(
                    f"{files[0]}: has no {missing[0]} ({len(missing)} arrays are missing); fetch the model again"
                )
            facts["weights"] = [path.name for path in files]
    except UserError:
        raise
    except Exception as error:  # the library does not document what a broken file raises
        raise UserError(f"{folder}: cannot be loaded as a model ({first_line(error)}); fetch it again") from None
    model = model.float().eval()
    return model, facts | {"weights_sha256": backbones.hash_of(model)}


def _files(folder: Path) -> list[Path]:
    """The files of the weights: safetensors if there are any, otherwise those of `torch.save`.

    Raises
    ------
    UserError : there are none, or an index names a file outside of the folder.
    """
    for stem, end in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole, index = folder / f"{stem}.{end}", folder / f"{stem}.{end}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            parts = read_record(index).get("weight_map")
            names = sorted({*map(str, parts.values())}) if isinstance(parts, dict) else []
            for name in names:
                if Path(name).name != name or not (folder / name).is_file():
                    raise UserError(f"{index}: names {name[:80]!r}, which is no file beside it; fetch the model again")
            if names:
                return [folder / name for name in names]
    raise UserError(
        f"extractors.*.weights: the folder {str(folder)!r} has neither model.safetensors nor pytorch_model.bin; fetch "
        "the model again, or set `weights: seeded`"
    )


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Leave out the library's progress bar and its report of weights that were not used."""
    logs = library.utils.logging
    level, shown = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if shown:
            logs.enable_progress_bar()


def _processor(library: ModuleType, folder: Path) -> Any:
    for path in (folder / "preprocessor_config.json", folder / "processor_config.json"):
        raw = read_record(path) if path.is_file() else {}
        for part in (raw, raw.get("image_processor")):
            for key in ("image_processor_type", "feature_extractor_type") if isinstance(part, dict) else ():
                kind = part.get(key)
                if kind is not None and not PROCESSORS.fullmatch(str(kind)):  # some fetch files
                    raise UserError(f"{path}: {key}: {str(kind)[:80]!r} is no image processor of these models")
    try:
        return library.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a file of the image processor is missing or damaged
        raise UserError(f"{folder}: its image processor cannot be loaded ({first_line(error)})") from None


def _check_sizes(folder: Path, transform: dict[str, Any], patch: Any, batch: int) -> None:
    """Refuse an image processor that would make pictures so large that they fill the memory."""
    given = [transform.get("size"), transform.get("crop_size"), transform.get("pad_size")]
    sides = [side for one in given if isinstance(one, dict) for side in one.values() if side is not None]
    towers.check_sides(f"{folder}: its image processor", sides, patch, batch)
    patches = transform.get("max_num_patches") or 1
    if not isinstance(patches, int) or not 0 < patches <= towers.PATCHES:
        raise UserError(f"{folder}: its image processor has {patches} patches, expected at most {towers.PATCHES}")
    if isinstance(patch, int):
        towers.check_batch(f"{folder}: its image processor", 3 * patches * patch * patch, batch)


def _is_plain(value: Any) -> bool:
    """Whether a setting of an image processor can be written as JSON."""
    if isinstance(value, dict | list | tuple):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str | int | float)


def _tokenizer(
    library: ModuleType, folder: Path, kind: str, longest: int
) -> tuple[Any, Callable[[str], towers.Inputs]]:
    """The tokenizer of a folder, and the inputs of a sentence by it."""
    try:
        with tokenizers.checked(folder, kind) as place:
            tokenizer = library.AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    except UserError:
        raise
    except Exception as error:  # a package or a file of the tokenizer is missing
        raise UserError(f"{folder}: its tokenizer cannot be loaded ({first_line(error)})") from None

    def tokenize(sentence: str) -> towers.Inputs:
        inputs = tokenizer(sentence, padding="max_length", truncation=True, max_length=longest, return_tensors="pt")
        return {name: value[0] for name, value in inputs.items() if name in ("input_ids", "attention_mask")}

    return tokenizer, tokenize

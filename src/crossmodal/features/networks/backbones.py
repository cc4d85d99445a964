"""torchvision networks as feature extractors: loading of weights, choice of precision, folding of batch norms."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import pickle
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from pydantic import Field, field_validator
from torch import Tensor, nn

from crossmodal.core import packed
from crossmodal.core.errors import UserError, first_line, suggestion
from crossmodal.core.files import sha256_file
from crossmodal.features.engine import extraction

log = logging.getLogger(__name__)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROBE, LEAST_COSINE = 2, 0.999  # images on which bf16 is tried, and the cosine to fp32 that it must reach
WORLD = Path(__file__).parent / "weights" / "world.safetensors"
OWN = {"world": WORLD, "scenes": WORLD.with_name("scenes.safetensors")}  # weights of this package, by name
WORLD_CLIP = WORLD.parent / "world_clip"  # a folder in open_clip's layout, made by `world_towers`


class Settings(extraction.Settings):
    """Settings of a network, its weights and its precision."""

    network: str = Field(description="torchvision classification network")
    weights: str = Field(
        description="IMAGENET1K_V1 or another of torchvision's names, world or scenes (of this package), seeded, a file"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="precision of the forward pass; auto: bf16 where the processor supports it"
    )
    seed: int = Field(0, description="seed of the weights where `weights` is seeded")

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        networks = torchvision.models.list_models(module=torchvision.models)
        if value not in networks:
            raise ValueError(f"{value!r} is no classification network of torchvision" + suggestion(value, networks))
        return value


def build(settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The network without its classifier, in evaluation mode, and a description of its weights for the manifest.

    Raises
    ------
    UserError : the network has no linear classifier, or the weights are not available or are those of another network.
    """
    model, head = _seeded(settings.network, settings.seed)
    names = torchvision.models.get_model_weights(settings.network)
    if settings.weights in names.__members__:
        model, facts = _published(settings, names[settings.weights])
    elif settings.weights == "seeded":
        facts = {"weights": "seeded", "fallback": "seeded random weights"}
        log.warning("%s: %s, not trained on anything", settings.network, facts["fallback"])
    else:
        path = OWN.get(settings.weights) or Path(settings.weights)
        if not path.is_file():
            raise UserError(
                f"extractors.*.weights: {settings.weights!r} is neither a file nor one of torchvision's names for "
                f"{settings.network} ({', '.join(names.__members__)}), `world`, `scenes` or `seeded`"
            )
        _load(model, path, head, settings.network)
        facts = {"weights": path.name, "weights_sha256": sha256_file(path)}
    facts.setdefault("weights_sha256", hash_of(model))
    _set(model, head, nn.Identity())
    return model.eval(), facts


def classifier(settings: Settings) -> tuple[nn.Linear, tuple[str, ...]]:
    """The last layer of a network that was trained on ImageNet, and the names of its classes.

    Raises
    ------
    UserError : the weights hold no classifier of ImageNet's 1,000 classes.
    """
    model, head = _seeded(settings.network, settings.seed)
    published = torchvision.models.get_model_weights(settings.network)
    names = tuple(next(iter(published)).meta["categories"])
    if settings.weights in published.__members__:
        return _published(settings, published[settings.weights])[0].get_submodule(head), names
    layer, path = model.get_submodule(head), Path(settings.weights)
    state = read_state(path) if path.is_file() else {}
    found = {name: state[f"{head}.{name}"] for name in layer.state_dict() if f"{head}.{name}" in state}
    if {name: value.shape for name, value in found.items()} != {n: v.shape for n, v in layer.state_dict().items()}:
        raise UserError(
            f"extractors.*.weights: {settings.weights!r} holds no {head!r} of {len(names):,} classes, by which `names: "
            f"classifier` names regions; set `weights` to those of a {settings.network} that was trained on ImageNet"
        )
    layer.load_state_dict(found)
    return layer, names


def bare(network: str) -> tuple[nn.Module, int]:
    """A network without its classifier and without trained weights, and the size of its features."""
    model, head = _seeded(network, 0)
    dim = model.get_submodule(head).in_features
    _set(model, head, nn.Identity())
    return model, dim


def _seeded(network: str, seed: int) -> tuple[nn.Module, str]:
    """A network with random weights, and the name of its classifier."""
    # Two old networks warn unless their slow initialisation is requested explicitly.
    options = {"init_weights": True} if network in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision.models.get_model(network, weights=None, **options)
    return model, _classifier(model, network)


def _published(settings: Settings, weights: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A network with weights that torchvision knows by name, from its cache or downloaded.

    A file in the cache is not trusted: its SHA-256 must begin with the digits in its published name, and torchvision,
    which would unpickle anything, may only load arrays and names (`_arrays_only`).
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(file), _prefix(file), progress=False)
        if not sha256_file(file).startswith(_prefix(file)):
            raise UserError(f"{file} is not the published file (its SHA-256 does not begin as its name states)")
        with _arrays_only():
            model = torchvision.models.get_model(settings.network, weights=weights)
    except Exception as error:  # a failed download or a broken file may raise anything
        raise UserError(
            f"extractors.*.weights: {weights.name} of {settings.network} cannot be fetched ({error}); run crossmodal "
            f"download torchvision/{settings.network}, place {weights.url} at {file}, or set `weights` to a file's "
            "path, `world`, `scenes` or `seeded`"
        ) from None
    return model, {"weights": weights.name}


def _prefix(file: Path) -> str:
    """The first digits of a published file's SHA-256, with which its name ends, as in `resnet152-f82ba261.pth`."""
    digits = re.search(r"-([a-f0-9]{8,64})$", file.stem)
    if digits is None:
        raise UserError(f"{file.name}: its name contains no SHA-256 by which it could be checked")
    return digits[1]


@contextmanager
def _arrays_only() -> Iterator[None]:
    """Within this context `torch.load` unpickles arrays and names only, whatever arguments it is called with."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def hash_of(model: nn.Module) -> str:
    """SHA-256 of the names and bytes of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, a file of `torch.save`, or detectron2's .pkl, with floats as float32.

    Raises
    ------
    UserError : the file cannot be read, or holds more than arrays and names (no code in it is run).
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            packed.check_header(path)
            state = load_file(path)
        else:
            if path.suffix == ".pkl":
                with path.open("rb") as stream:
                    state = _Arrays(stream, encoding="latin1").load()
            else:
                _check_stored(path)
                state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state.get("model", state))
            state = {name.removeprefix("module."): _tensor(name, value) for name, value in state.items()}
        size = sum(value.numel() * max(value.itemsize, 4) for value in state.values())
        packed.check_size(str(path), path.stat().st_size, size)  # a few bytes may stand for a large tensor
        return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    except Exception as error:  # the libraries do not document what broken files raise
        raise UserError(
            f"{path}: cannot be read as a state dict ({first_line(error)}); expected .safetensors or .pth"
        ) from None


def _check_stored(path: Path) -> None:
    """Refuse an archive with compressed members, which torch never writes, before it unpacks them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        packed.check_size(str(path), path.stat().st_size, sum(member.file_size for member in members))
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its arrays are compressed, which those of torch.save are not; save it again")


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        raise ValueError(f"{str(name)[:80]} is no array but {type(value).__name__}")
    return torch.as_tensor(value)


class _Arrays(pickle.Unpickler):
    """Unpickles only dictionaries of NumPy arrays, since any other pickle could run arbitrary code."""

    ALLOWED = frozenset({"OrderedDict", "_reconstruct", "ndarray", "dtype", "scalar", "encode", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED or module.split(".")[0] not in ("numpy", "collections", "_codecs"):
            raise pickle.UnpicklingError(f"holds {module}.{name}, no array")
        return super().find_class(module, name)


def _load(model: nn.Module, path: Path, head: str, network: str) -> None:
    """Load a state dict with torchvision's names, of any float type; the classifier `head` may be missing.

    If the convolutions in the file have biases where the network has batch norms, the batch norms have been folded into
    them, and those of the network are replaced by identities.

    Raises
    ------
    UserError : the file cannot be read, or holds the weights of another network.
    """
    state = read_state(path)
    state = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    norms, biased = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.running_var" not in state:
            norms.append(name)
        elif isinstance(module, nn.Conv2d) and module.bias is None and f"{name}.bias" in state:
            biased.append(module)
    if len(norms) == len(biased):  # otherwise something is missing, which is reported below
        for name in norms:
            _set(model, name, nn.Identity())
        for module in biased:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    expected = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{head}.")}
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    further = [name for name in state if name not in expected]
    wrong = [f"{name} is missing" for name in missing[:2]] + [f"{name} is not one of its names" for name in further[:2]]
    shapes = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    wrong += [f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}" for name in shapes[:2]]
    if wrong:
        count = len(missing) + len(further) + len(shapes)
        raise UserError(
            f"{path}: holds weights of another network than {network!r}: {'; '.join(wrong)} ({count} differences); "
            "set `network` to theirs, or `weights` to a file of this one"
        )
    model.load_state_dict(state, strict=False)


def _classifier(model: nn.Module, network: str) -> str:
    """Name of the last linear layer."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(
            f"extractors.*.network: {network!r} has no linear classifier whose input could be the feature; "
            "choose another network (resnet152 is the papers')"
        )
    return linear[-1]


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def precision_of(settings: Any, device: torch.device) -> str:
    """The precision of the settings; `auto` means bf16 if the processor has instructions for it, otherwise fp32."""
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def prepare(model: nn.Module, precision: str, device: torch.device, *, fold: bool = True) -> nn.Module:
    """A copy of the network for inference: batch norms folded into convolutions, channels last, in `precision`.

    Without `fold` nothing is folded, for networks whose steps depend on their inputs, which cannot be traced.
    """
    try:
        from torch.fx.experimental.optimization import fuse

        model = fuse(model) if fold else copy.deepcopy(model)  # `fuse` returns a copy
    except Exception as error:  # networks that cannot be traced are used unchanged
        log.info("batch norms are not folded: %s", error)
        model = copy.deepcopy(model)
    model = model.to(device, memory_format=torch.channels_last)
    return model.to(torch.bfloat16) if precision == "bf16" else model


def normalised(pixels: Tensor, device: torch.device, precision: str) -> Tensor:
    """Normalise (B, 3, H, W) uint8 pixels by ImageNet's mean and standard deviation, as channels-last input."""
    batch = pixels.to(device, non_blocking=True).float().div_(255)
    batch = batch.sub_(batch.new_tensor(MEAN)[:, None, None]).div_(batch.new_tensor(STD)[:, None, None])
    batch = batch.to(memory_format=torch.channels_last)
    return batch.bfloat16() if precision == "bf16" else batch


def ready(
    model: nn.Module,
    settings: Any,
    device: torch.device,
    probe: Callable[[nn.Module, str], Tensor],
    *,
    fold: bool = True,
) -> tuple[nn.Module, str]:
    """The network prepared for inference (`prepare`), and its precision.

    `precision: auto` uses bf16 only if the features of a few images reach a cosine of `LEAST_COSINE` with those
    computed in fp32, since some networks lose more than that.

    Parameters
    ----------
    settings : those of an extractor, with `precision` and `network`.
    probe : computes the (n, ...) features of a few images with a given network and precision.
    fold : whether batch norms are folded (`prepare`).
    """
    precision = precision_of(settings, device)
    if settings.precision != "auto" or precision == "fp32":
        return prepare(model, precision, device, fold=fold), precision
    run = prepare(model, "fp32", device, fold=fold)
    exact = probe(run, "fp32").flatten(1)
    run = run.to(torch.bfloat16)  # in place, since folding the norms of a large network again takes a second
    approximate = probe(run, "bf16").flatten(1)
    least = nn.functional.cosine_similarity(exact, approximate).min().item()
    if least >= LEAST_COSINE:
        return run, "bf16"
    log.warning("%s: fp32 is used, since bf16 reaches a cosine of %.4f only", settings.network, least)
    return prepare(model, "fp32", device, fold=fold), "fp32"


def in_turn(device: torch.device, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`run` for many threads at once on a CPU, and for one batch at a time on a GPU, whose memory they share."""
    if device.type != "cuda":
        return run
    turn = threading.Lock()

    def waiting(batch: Any) -> Any:
        with turn:
            return run(batch)

    return waiting


def first_readable(listed: Sequence[Any], load: Callable[[Any], Any]) -> list[Any]:
    """The first items that can be read, at most `PROBE`, on which the precision is tried.

    Unreadable items are skipped silently, since they are reported when their own turn comes.
    """
    good: list[Any] = []
    for item in listed[: 50 * PROBE]:
        try:
            good.append(load(item))
        except Exception:  # a bad file may make a library raise anything; it is reported at its own turn
            continue
        if len(good) == PROBE:
            break
    return good

"""Global image features: the layer before the classifier of any torchvision network.

Batches are fixed by the items' order and each is decoded and run by one thread, so that the bits do not depend on how
many threads there are. Finished shards stay on the disk: a killed extraction goes on where it stopped.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image, ImageFile
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, center_crop, pil_to_tensor, resize, ten_crop

from crossmodal.errors import UserError, suggestion
from crossmodal.features import store
from crossmodal.files import hardware, library_versions, sha256_file, sha256_json, whole

log = logging.getLogger(__name__)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROBE, LEAST_COSINE = 2, 0.999  # images on which bf16 is tried first, and how near fp32 it must be
WORLD = Path(__file__).parent / "weights" / "world.safetensors"

ImageFile.LOAD_TRUNCATED_IMAGES = False  # half a photograph is an error, whatever another library has set


class Settings(BaseModel):
    """The defaults are the published transform of VSE++ (short side 256, centre crop 224, unit norm)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(description="torchvision classification network")
    weights: str = Field(description="IMAGENET1K_V1 or another of torchvision's names, world, seeded, or a file")
    resize: int = Field(256, ge=8, description="short side in pixels, the aspect kept")
    crop: int = Field(224, ge=8, description="side of the square crop in pixels")
    crops: Literal["center", "ten"] = Field("center", description="ten: corners, centre, mirrors; their mean")
    l2: bool = Field(True, description="unit length; of ten crops, after their mean")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the processor has it")
    batch_size: int = Field(16, ge=1, description="crops in a forward pass of one thread")
    shard: int = Field(512, ge=1, description="images after which results are written down")
    seed: int = Field(0, description="of `weights: seeded`")

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        known = torchvision.models.list_models(module=torchvision.models)
        if value not in known:
            raise ValueError(f"{value!r} is no classification network of torchvision" + suggestion(value, known))
        return value

    @model_validator(mode="after")
    def _inside(self) -> Settings:
        if self.crop > self.resize:
            raise ValueError(f"crop: {self.crop} pixels do not fit in a short side of {self.resize} (`resize`)")
        return self

    @property
    def batch(self) -> int:
        """Images of a batch."""
        return max(1, self.batch_size // 10) if self.crops == "ten" else self.batch_size


# -- network ----------------------------------------------------------------------------------------------------------


def build(settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The network without its classifier, in evaluation mode, and what a manifest says of its weights.

    Raises
    ------
    UserError : a network without a linear classifier, weights that cannot be had or are another network's.
    """
    # Two old networks warn unless told that their slow start values are wanted.
    options = {"init_weights": True} if settings.network in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = torchvision.models.get_model(settings.network, weights=None, **options)
    head = _classifier(model, settings.network)
    names = torchvision.models.get_model_weights(settings.network)
    if settings.weights in names.__members__:
        model, facts = _published(settings, names[settings.weights])
    elif settings.weights == "seeded":
        facts = {"weights": "seeded", "fallback": "seeded random weights"}
        log.warning("%s: %s, not trained on anything", settings.network, facts["fallback"])
    else:
        path = WORLD if settings.weights == "world" else Path(settings.weights)
        if not path.is_file():
            raise UserError(
                f"extractors.*.weights: {settings.weights!r} is neither a file nor one of torchvision's names for "
                f"{settings.network} ({', '.join(names.__members__)}), `world` or `seeded`"
            )
        _load(model, path, head, settings.network)
        facts = {"weights": path.name, "weights_sha256": sha256_file(path)}
    facts.setdefault("weights_sha256", _hash(model))
    _set(model, head, nn.Identity())
    return model.eval(), facts


def _published(settings: Settings, weights: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A network with weights that torchvision knows by name, from its cache or the network."""
    try:
        model = torchvision.models.get_model(settings.network, weights=weights)
    except Exception as error:  # whatever the download or a broken file raises
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"extractors.*.weights: {weights.name} of {settings.network} cannot be had ({error}); place "
            f"{weights.url} at {file}, or set `weights` to a file's path, `world` or `seeded`"
        ) from None
    preset = weights.transforms()
    made_for = (preset.resize_size[0], preset.crop_size[0])
    if (settings.resize, settings.crop) != made_for:
        told = (settings.network, weights.name, *made_for, settings.resize, settings.crop)
        log.warning("%s: %s was measured with resize %d and crop %d; the settings say %d and %d", *told)
    return model, {"weights": weights.name}


def _hash(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load(model: nn.Module, path: Path, head: str, network: str) -> None:
    """Load a state dict with torchvision's names, of any float type; the classifier `head` is not needed.

    A file whose convolutions have biases where the network has batch norms holds them folded in: the network's batch
    norms are then replaced by nothing.

    Raises
    ------
    UserError : a file that cannot be read, or weights of another network.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
            state = {name.removeprefix("module."): value for name, value in state.items()}
        state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    except Exception as error:  # what broken files raise is not documented
        raise UserError(f"{path}: cannot be read as a state dict ({error}); expected .safetensors or .pth") from None
    state = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    norms, biased = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.running_var" not in state:
            norms.append(name)
        elif isinstance(module, nn.Conv2d) and module.bias is None and f"{name}.bias" in state:
            biased.append(module)
    if len(norms) == len(biased):  # else something is missing, which is told below
        for name in norms:
            _set(model, name, nn.Identity())
        for module in biased:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{head}.")}
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    further = [name for name in state if name not in own]
    wrong = [f"{name} is missing" for name in missing[:2]] + [f"{name} is not one of its names" for name in further[:2]]
    shapes = [name for name in own if name in state and state[name].shape != own[name].shape]
    wrong += [f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}" for name in shapes[:2]]
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


def precision_of(settings: Settings, device: torch.device) -> str:
    """`auto` resolved: bf16 where there are instructions for it."""
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def prepare(model: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The network as it is run: batch norms folded into convolutions, channels last, in its precision."""
    try:
        from torch.fx.experimental.optimization import fuse

        model = fuse(model)  # a copy
    except Exception as error:  # networks that cannot be traced are run as they are
        log.info("batch norms are not folded: %s", error)
        model = copy.deepcopy(model)
    model = model.to(device, memory_format=torch.channels_last)
    return model.to(torch.bfloat16) if precision == "bf16" else model


def ready(settings: Settings, device: torch.device, first: list[Path]) -> tuple[nn.Module, str, dict[str, Any]]:
    """The network as it is run, its precision, and what a manifest says of its weights.

    `precision: auto` takes bf16 only where the features of the `first` images are those of fp32 but for a cosine of
    `LEAST_COSINE`: some networks with weights of their own lose more.

    Raises
    ------
    UserError : see `build` and `decode`.
    """
    model, facts = build(settings)
    precision = precision_of(settings, device)
    if settings.precision == "auto" and precision == "bf16":
        pixels = torch.stack([decode(path, settings)[0] for path in first])
        exact = forward(prepare(model, "fp32", device), pixels, settings, device, "fp32")
        found = forward(prepare(model, "bf16", device), pixels, settings, device, "bf16")
        least = nn.functional.cosine_similarity(exact, found).min().item()
        if not least >= LEAST_COSINE:
            log.warning("%s: fp32 is taken, since bf16 reaches a cosine of %.4f only", settings.network, least)
            precision = "fp32"
    return prepare(model, precision, device), precision, facts


# -- images -----------------------------------------------------------------------------------------------------------


def decode(path: Path, settings: Settings) -> tuple[Tensor, bytes]:
    """(C, H, W) uint8 crop, or (10, C, H, W), and the SHA-256 digest of the file.

    Grey, palette, alpha and CMYK become RGB; an EXIF orientation is ignored, as the published pipelines do.

    Raises
    ------
    UserError : a file that is missing, truncated or no image.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the image folder and run again") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is truncated or no image ({error}); fetch it again") from None
    picture = resize(picture, settings.resize, InterpolationMode.BILINEAR)
    if settings.crops == "ten":
        pixels = torch.stack([pil_to_tensor(crop) for crop in ten_crop(picture, settings.crop)])
    else:
        pixels = pil_to_tensor(center_crop(picture, settings.crop))
    return pixels, hashlib.sha256(data).digest()


@torch.inference_mode()
def forward(model: nn.Module, pixels: Tensor, settings: Settings, device: torch.device, precision: str) -> Tensor:
    """(B, C, H, W) or (B, 10, C, H, W) uint8 -> (B, D) float32 features."""
    batch = pixels.flatten(0, -4).to(device, non_blocking=True).float().div_(255)
    batch = batch.sub_(batch.new_tensor(MEAN)[:, None, None]).div_(batch.new_tensor(STD)[:, None, None])
    batch = batch.to(memory_format=torch.channels_last)
    out = model(batch.bfloat16() if precision == "bf16" else batch)
    out = out.float().flatten(1)
    if settings.crops == "ten":
        out = out.view(len(pixels), 10, -1).mean(1)
    return nn.functional.normalize(out, dim=1) if settings.l2 else out


# -- extraction -------------------------------------------------------------------------------------------------------


def extract(
    items: pd.DataFrame, root: Path, settings: Settings, target: Path, *, threads: int, modality: str = "image"
) -> None:
    """Features (N, D) float32 of every item of a modality, in the items' order, as `target.npy`, `.parquet`, `.json`.

    Raises
    ------
    UserError : a bad image or bad weights; shards that are finished stay, and the next call goes on from them.
    """
    rows = items[items.modality == modality]
    sources = [Path(root) / source for source in rows.source]
    if not sources:
        raise UserError(f"items.parquet: holds no {modality} items to extract features of")
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, precision, facts = ready(settings, device, sources[:PROBE])
    described = {
        "extractor": "image",
        "settings": settings.model_dump(exclude={"shard"}),
        "network": settings.network,
        **facts,
        "layer": "input of the classifier",
        "transform": {
            "resize": settings.resize,
            "crop": settings.crop,
            "crops": "center" if settings.crops == "center" else "ten, averaged before the norm",
            "interpolation": "bilinear, antialiased",
            "mean": MEAN,
            "std": STD,
            "exif": "ignored",
        },
        "precision": precision,
        "device": device.type,
        "versions": library_versions("torch", "torchvision", "pillow", "numpy"),
        "hardware": hardware(),
    }
    size = max(1, settings.shard // settings.batch) * settings.batch  # whole batches: the same ones for any shard size
    identity = sha256_json([described, size, [_stamp(path) for path in sources], list(rows.item_id)])[:16]
    shards = target.parent / f".{target.name}.shards"
    folder = shards / identity
    if shards.is_dir():
        for other in shards.iterdir():  # of other settings or other images: of no use any more
            if other.name != identity:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(sources), size)
    todo = {start: sources[start : start + size] for start in starts if not (folder / f"{start}.npy").exists()}
    ahead = sum(map(len, todo.values()))
    if ahead < len(sources):
        log.info("%s: %d of %d images are done already", target.name, len(sources) - ahead, len(sources))
    with _progress(target.name, len(sources), len(sources) - ahead) as advance:
        for start, features, digests in _shards(model, todo, settings, device, precision, threads, advance):
            with whole(folder / f"{start}.sha") as temporary:
                temporary.write_bytes(b"".join(digests))
            with whole(folder / f"{start}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, features)
    inputs = _assemble(folder, starts, len(sources), store.paths(target)[0])
    seconds = time.perf_counter() - began
    spent = {"seconds": round(seconds, 2), "images_now": ahead, "images_a_second": round(ahead / seconds, 2)}
    store.save(target, rows.item_id, {**described, "inputs_sha256": inputs, **spent})
    shutil.rmtree(shards)
    log.info("%s: %d images in %.1f s (%s, %s)", target.name, ahead, seconds, device.type, precision)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the image folder and run again") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def _assemble(folder: Path, starts: range, count: int, path: Path) -> str:
    """Write the shards as one array, one of them in memory at a time; the SHA-256 of the files' digests."""
    digest = hashlib.sha256()
    with whole(path) as temporary:
        array = None
        for start in starts:
            part = np.load(folder / f"{start}.npy")
            if array is None:
                array = np.lib.format.open_memmap(temporary, "w+", np.float32, (count, part.shape[1]))
            array[start : start + len(part)] = part
            array.flush()
            digest.update((folder / f"{start}.sha").read_bytes())
    return digest.hexdigest()


def _shards(
    model: nn.Module,
    todo: dict[int, list[Path]],
    settings: Settings,
    device: torch.device,
    precision: str,
    threads: int,
    advance: Callable[[int], None],
) -> Iterator[tuple[int, np.ndarray, list[bytes]]]:
    """(start, features, digests of the files) of each shard, once all its batches are done.

    On the CPU a thread decodes and runs a batch; on a GPU the threads decode and the batches take turns. Batches of
    the next shard begin before the last is finished, so that no core waits.
    """
    turn = threading.Lock()

    def one(paths: list[Path]) -> tuple[np.ndarray, list[bytes]]:
        decoded = [decode(path, settings) for path in paths]
        pixels = torch.stack([pixels for pixels, _ in decoded])
        if device.type == "cuda":
            pixels = pixels.pin_memory()
            with turn:
                found = forward(model, pixels, settings, device, precision).cpu()
        else:
            found = forward(model, pixels, settings, device, precision)
        bad = (~found.isfinite().all(1)).nonzero()
        if len(bad):
            raise UserError(
                f"{paths[int(bad[0])]}: its features in {precision} are not finite numbers; set `precision: fp32`, "
                "and see whether the weights are whole"
            )
        return found.numpy(), [digest for _, digest in decoded]

    batches = (
        (start, first, sources[first : first + settings.batch])
        for start, sources in todo.items()
        for first in range(0, len(sources), settings.batch)
    )
    done: dict[int, dict[int, tuple[np.ndarray, list[bytes]]]] = {start: {} for start in todo}
    with _threads(threads) as (workers, count):
        waiting: dict[Future, tuple[int, int]] = {}
        try:
            while True:
                while len(waiting) < 2 * count and (batch := next(batches, None)) is not None:
                    waiting[workers.submit(one, batch[2])] = batch[:2]
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    start, first = waiting.pop(future)
                    done[start][first] = future.result()
                    advance(len(done[start][first][1]))
                    if len(done[start]) == -(-len(todo[start]) // settings.batch):
                        parts = [part for _, part in sorted(done.pop(start).items())]
                        digests = [digest for _, found in parts for digest in found]
                        yield start, np.concatenate([features for features, _ in parts]), digests
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _threads(threads: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """At most `threads` workers, each with one torch thread: the order of sums, so the bits, are those of one thread.

    On a GPU fp32 is kept fp32 (no TF32).
    """
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(threads, cores))
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    torch.set_num_threads(1)
    try:
        with exact, ThreadPoolExecutor(count, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool, count
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(name: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line in the log every ten seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total, completed=done)
            yield lambda n: bar.advance(task, n)
        return
    state = {"done": done, "told": time.monotonic()}

    def advance(n: int) -> None:
        state["done"] += n
        if time.monotonic() - state["told"] > 10:
            state["told"] = time.monotonic()
            log.info("%s: %d of %d", name, state["done"], total)

    yield advance

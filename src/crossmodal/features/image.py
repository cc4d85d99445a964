"""Global image features: the layer before the classifier of any torchvision network.

Batches are fixed by the items' order and each is decoded and run by one thread, so that the bits do not depend on how
many threads there are. Finished shards stay on the disk: a killed extraction goes on where it stopped.
"""

from __future__ import annotations

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
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, center_crop, pil_to_tensor, resize, ten_crop

from crossmodal.errors import UserError, suggestion
from crossmodal.features import store
from crossmodal.files import hardware, library_versions, sha256_file, sha256_json, whole

log = logging.getLogger(__name__)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORLD = Path(__file__).parent / "weights" / "world.safetensors"


class Settings(BaseModel):
    """The defaults are the published transform of VSE++ (short side 256, centre crop 224, unit norm)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(description="torchvision classification network")
    weights: str = Field(description="IMAGENET1K_V1 or another of torchvision's names, world, seeded, or a file")
    resize: int = Field(256, ge=8, description="short side in pixels, the aspect kept")
    crop: int = Field(224, ge=8, description="side of the square crop in pixels")
    crops: Literal["center", "ten"] = Field("center", description="ten: corners, centre, mirrors; their mean")
    l2: bool = Field(True, description="unit length")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the processor has it")
    batch_size: int = Field(16, ge=1, description="images in a forward pass of one thread")
    shard: int = Field(512, ge=1, description="images after which results are written down")
    seed: int = Field(0, description="of `weights: seeded`")


# -- network ----------------------------------------------------------------------------------------------------------


def build(settings: Settings) -> tuple[nn.Module, dict[str, Any]]:
    """The network without its classifier, in evaluation mode, and what is known of its weights.

    Raises
    ------
    UserError : an unknown network, weights that cannot be had or are another network's.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if settings.network not in known:
        raise UserError(f"extractors.*.network: {settings.network!r} is unknown" + suggestion(settings.network, known))
    torch.manual_seed(settings.seed)
    facts: dict[str, Any] = {"weights": settings.weights}
    options = {"init_weights": True} if settings.network in ("googlenet", "inception_v3") else {}
    enum = torchvision.models.get_model_weights(settings.network)
    if settings.weights in enum.__members__:
        try:
            model = torchvision.models.get_model(settings.network, weights=settings.weights)
        except Exception as error:  # whatever the download raises
            file = Path(torch.hub.get_dir()) / "checkpoints" / Path(enum[settings.weights].url).name
            raise UserError(
                f"extractors.*.weights: {settings.weights} of {settings.network} cannot be had ({error}); put the "
                f"file at {file}, or set `weights` to a file's path"
            ) from None
    elif settings.weights == "seeded":
        model = torchvision.models.get_model(settings.network, weights=None, **options)
        facts["fallback"] = "seeded random weights, not trained on anything"
        log.warning("%s: %s", settings.network, facts["fallback"])
    else:
        path = WORLD if settings.weights == "world" else Path(settings.weights)
        if not path.is_file():
            raise UserError(
                f"extractors.*.weights: {settings.weights!r} is neither a file nor one of torchvision's names for "
                f"{settings.network} ({', '.join(enum.__members__)}), `world` or `seeded`"
            )
        model = torchvision.models.get_model(settings.network, weights=None, **options)
        _load(model, path)
        facts |= {"weights": path.name, "weights_sha256": sha256_file(path)}
    _drop_classifier(model)
    return model.eval(), facts


def _load(model: nn.Module, path: Path) -> None:
    """Load a state dict with torchvision's names; its classifier is not needed, its batch norms may be folded in."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as weights ({error})") from None
    head = _classifier(model)
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if not k.startswith(f"{head}.")}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and not any(key.startswith(f"{name}.") for key in state):
            _set(model, name, nn.Identity())  # folded into the convolution before it, which then has a bias
        elif isinstance(module, nn.Conv2d) and module.bias is None and f"{name}.bias" in state:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{head}.")}
    wrong = [f"{k} is missing" for k in own if k not in state and not k.endswith("num_batches_tracked")]
    wrong += [f"{k} is not a part of it" for k in state if k not in own]
    wrong += [
        f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if wrong:
        raise UserError(
            f"{path}: are weights of another network than {type(model).__name__} as `network` names it "
            f"({len(wrong)} differences: {'; '.join(wrong[:3])})"
        )
    model.load_state_dict(state, strict=False)


def _classifier(model: nn.Module) -> str:
    """Name of the last linear layer."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _drop_classifier(model: nn.Module) -> None:
    _set(model, _classifier(model), nn.Identity())


def precision_of(settings: Settings, device: torch.device) -> str:
    """`auto` resolved: bf16 where there are instructions for it."""
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def prepare(model: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The network as it is run: batch norms folded, channels last, in its precision."""
    try:
        from torch.fx.experimental.optimization import fuse

        model = fuse(model)
    except Exception as error:  # networks that cannot be traced are run as they are
        log.info("batch norms are not folded: %s", error)
    model = model.to(device, memory_format=torch.channels_last)
    return model.to(torch.bfloat16) if precision == "bf16" else model


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
    """Features of every item of a modality as `target.npy`, `.parquet` and `.json`.

    Raises
    ------
    UserError : a bad image or bad weights; shards that are finished stay, and the next call goes on from them.
    """
    rows = items[items.modality == modality]
    sources = [root / source for source in rows.source]
    if not sources:
        raise UserError(f"items.parquet: holds no {modality} items to extract features of")
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_of(settings, device)
    model, facts = build(settings)
    model = prepare(model, precision, device)
    described = {
        "extractor": "image",
        "settings": settings.model_dump(exclude={"shard"}),
        **facts,
        "layer": "input of the classifier",
        "transform": {"mean": MEAN, "std": STD, "interpolation": "bilinear, antialiased", "exif": "ignored"},
        "precision": precision,
        "device": device.type,
        "versions": library_versions("torch", "torchvision", "pillow"),
        "hardware": hardware(),
    }
    identity = sha256_json([described, [_stamp(path) for path in sources], list(rows.item_id)])[:16]
    shards = target.parent / f".{target.name}.shards"
    folder = shards / identity
    if shards.is_dir():
        for other in shards.iterdir():  # of other settings or other images: of no use any more
            if other.name != identity:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(sources), settings.shard)
    todo = [start for start in starts if not (folder / f"{start}.npy").exists()]
    if len(todo) < len(starts):
        log.info("%d of %d shards are there from an earlier run", len(starts) - len(todo), len(starts))
    ahead = sum(min(settings.shard, len(sources) - start) for start in todo)
    with _threads(threads, device) as workers, _progress(target.name, len(sources), len(sources) - ahead) as advance:
        for start in todo:
            part = sources[start : start + settings.shard]
            features, digests = _run(model, part, settings, device, precision, workers, advance)
            with whole(folder / f"{start}.sha") as temporary:
                temporary.write_bytes(b"".join(digests))
            with whole(folder / f"{start}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, features)
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(store.paths(target)[0]) as temporary:
        array = None
        for start in starts:
            part = np.load(folder / f"{start}.npy")
            if array is None:
                shape = (len(sources), part.shape[1])
                array = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            array[start : start + len(part)] = part
            digest.update((folder / f"{start}.sha").read_bytes())
        array.flush()
    store.save(target, rows.item_id, {**described, "inputs_sha256": digest.hexdigest()})
    shutil.rmtree(shards)
    seconds = time.perf_counter() - began
    log.info("%d images in %.1f s (%s, %s)", len(sources), seconds, device.type, precision)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the image folder and run again") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def _run(
    model: nn.Module,
    sources: list[Path],
    settings: Settings,
    device: torch.device,
    precision: str,
    workers: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, list[bytes]]:
    """One shard. On the CPU a thread decodes and runs a batch; on a GPU the batches take turns."""
    turn = threading.Lock()

    def one(start: int) -> tuple[int, np.ndarray, list[bytes]]:
        decoded = [decode(path, settings) for path in sources[start : start + settings.batch_size]]
        pixels = torch.stack([pixels for pixels, _ in decoded])
        if device.type == "cuda":
            pixels = pixels.pin_memory()
            with turn:
                found = forward(model, pixels, settings, device, precision).cpu()
        else:
            found = forward(model, pixels, settings, device, precision)
        return start, found.numpy(), [digest for _, digest in decoded]

    results: dict[int, tuple[np.ndarray, list[bytes]]] = {}
    waiting: set[Future] = {workers.submit(one, start) for start in range(0, len(sources), settings.batch_size)}
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                start, features, digests = future.result()
                results[start] = (features, digests)
                advance(len(digests))
    finally:
        for future in waiting:
            future.cancel()
    ordered = [results[start] for start in sorted(results)]
    return np.concatenate([features for features, _ in ordered]), [d for _, digests in ordered for d in digests]


@contextmanager
def _threads(threads: int, device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Worker threads, each with one torch thread: the sums' order, so the bits, are those of one thread."""
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max(1, min(threads, cores)), initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool
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

"""Regions in bf16, channels last, against plain fp32 passes over the same files, and the bare convolutions."""

from __future__ import annotations

import copy
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from common import alternate, save
from PIL import Image
from torchvision.ops import roi_align, roi_pool
from torchvision.transforms.functional import normalize, pil_to_tensor, resize

from crossmodal.datasets import world
from crossmodal.features import image, regions
from crossmodal.features.engine import extraction, store
from crossmodal.features.networks import backbones, checkpoints, detector, pooling

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()  # of each case
POOLED, DETECTED, ROUNDS = 16, 2, 5
CPU = torch.device("cpu")


def draw(folder: Path, count: int, size: tuple[int, int]) -> pd.DataFrame:
    names = [f"{index}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        world.draw_scene(3, index)[0].resize(size).save(folder / name, quality=90)
    return pd.DataFrame({"item_id": names, "modality": "image", "source": names})


def extracted(folder: Path, frame: pd.DataFrame, settings: regions.Settings, work: extraction.Work) -> np.ndarray:
    """Through the whole extraction with a network that is ready, nothing found in the store."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "features" / "image.x"
        given = extraction.given_of(frame, folder, "image", Path(name))
        recipe = extraction.Recipe(lambda _: work)
        extraction.extract(given, recipe, settings, target, extractor="regions", threads=THREADS)
        return np.array(store.open_features(target).array)


def report(what: str, cases: dict[str, Callable[[], object]], images: int, cosine: float) -> dict:
    seconds = alternate(cases, ROUNDS)
    ratio, floor = seconds["plain fp32"] / seconds["ours"], seconds["bare bf16"] / seconds["ours"]
    print(
        f"{what}: {images / seconds['ours']:.2f} images/s, {ratio:.2f} x the plain fp32 pass, "
        f"{floor:.0%} of the bare bf16 convolutions; least cosine {cosine:.5f}"
    )
    return {"images": images, "seconds": seconds, "ratio": ratio, "of_the_floor": floor, "least_cosine": cosine}


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = torch.from_numpy(one).flatten(0, -2), torch.from_numpy(other).flatten(0, -2)
    return float(torch.nn.functional.cosine_similarity(one, other).min())


def pooled() -> dict:
    """36 boxes of a photograph on ResNet-101's last map."""
    settings = regions.Settings(boxes="grid", weights="seeded", resize=300, precision="bf16", batch_size=4)
    model, _ = backbones.build(settings)
    cut = pooling.last_map(model, settings.network)
    bare = backbones.prepare(cut.net, "bf16", CPU)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = draw(folder, POOLED, (500, 375))
        boxes = pooling.grid(500, 375, 6)

        @torch.no_grad()
        def plain() -> np.ndarray:
            found = []
            for source in frame.source:
                picture = resize(Image.open(folder / source).convert("RGB"), 300)
                pixels = normalize(pil_to_tensor(picture).float() / 255, backbones.MEAN, backbones.STD)
                last = cut.net(pixels[None])
                found.append(roi_align(last, [boxes], 8, 300 / 375 / 32, 1, aligned=True).mean((2, 3)))
            return torch.stack(found).numpy()

        batch = torch.randn(4, 3, 300, 400).bfloat16().contiguous(memory_format=torch.channels_last)

        @torch.inference_mode()
        def floor() -> None:
            for _ in range(POOLED // 4):
                bare(batch)

        work = regions._pool(cut, None, settings, CPU, [])

        def ours() -> np.ndarray:
            return extracted(folder, frame, settings, work)

        cosine = least_cosine(ours(), plain())
        cases = {"ours": ours, "plain fp32": plain, "bare bf16": floor}
        return report("pooled at 36 boxes", cases, POOLED, cosine)


def detected() -> dict:
    """The detector on small pictures with few proposals: at full size an image takes half a minute in fp32."""
    settings = regions.Settings(
        boxes="detected", weights="seeded", resize=224, proposals=25, precision="bf16", batch_size=1
    )
    model, _ = checkpoints.seeded(settings.network, settings.seed)
    ask = {"least": 36, "most": 36, "confidence": 0.2, "overlap": 0.3}
    trunk, res5 = (backbones.prepare(part, "bf16", CPU) for part in (model.trunk, model.res5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = draw(folder, DETECTED, (300, 224))

        @torch.no_grad()
        def plain() -> None:
            for source in frame.source:
                pixels, scale = detector.pixels_of(image.read(folder / source), 224, 1000)
                last = model.trunk(pixels[None])
                boxes = model.propose(last, tuple(pixels.shape[1:]), scale, 25)
                features = model.res5(roi_pool(last, [boxes], detector.POOLED, 1 / detector.STRIDE)).mean((2, 3))
                scores, _, _ = model.classify(features)
                detector.select(boxes[:, None], scores, **ask)

        one = torch.randn(1, 3, 224, 300).bfloat16().contiguous(memory_format=torch.channels_last)
        part = torch.randn(25, 1024, 14, 14).bfloat16().contiguous(memory_format=torch.channels_last)

        @torch.inference_mode()
        def floor() -> None:
            for _ in range(DETECTED):
                trunk(one)
                res5(part)

        near = copy.deepcopy(model)
        work = regions._detect(near, settings, CPU, [])  # which prepares it

        def ours() -> None:
            extracted(folder, frame, settings, work)

        # Boxes differ in their last digits, so that features are compared at the same ones.
        boxes = pooling.grid(300, 224, 3)
        pixels, _ = detector.pixels_of(image.read(folder / frame.source[0]), 224, 1000)
        with torch.inference_mode():
            exact = model.regions(model.trunk(pixels[None]), boxes)
            found = near.regions(near._run(near.trunk, pixels[None]), boxes)
        cosine = least_cosine(found.numpy(), exact.numpy())
        cases = {"ours": ours, "plain fp32": plain, "bare bf16": floor}
        return report("detected, 25 proposals", cases, DETECTED, cosine)


def main() -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    found = {"threads": THREADS, "torch": torch.__version__, "torchvision": torchvision.__version__}
    found |= {"pooled": pooled(), "detected": detected()}
    save("regions", found)


if __name__ == "__main__":
    main()

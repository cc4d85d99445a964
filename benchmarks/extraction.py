"""Image extraction against plain fp32 loops over the same network and files, and the bare product, in the same run."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from common import alternate, save
from PIL import Image
from torchvision import transforms

from crossmodal.datasets import world
from crossmodal.features import image
from crossmodal.features.engine import extraction, store
from crossmodal.features.networks import backbones

N = {
    "resnet152": 192,
    "shufflenet_v2_x1_0": 1024,
}  # enough that the start, seconds of a large network, does not count
SIZES = (1, 8, 32)  # batches of the plain loop


def draw(folder: Path, count: int) -> pd.DataFrame:
    """Photograph-sized scenes: 500 x 375 JPEG files."""
    names = []
    for index in range(count):
        picture, _ = world.draw_scene(3, index)
        picture.resize((500, 375)).save(folder / f"{index}.jpg", quality=90)
        names.append(f"{index}.jpg")
    return pd.DataFrame({"item_id": names, "modality": "image", "source": names})


def plain(paths: list[Path], settings: image.Settings, size: int) -> np.ndarray:
    """The loop of a first script: one image after another read, batches of `size` in float32, torch's own threads."""
    model, _ = backbones.build(settings)
    transform = transforms.Compose(
        [
            transforms.Resize(settings.resize),
            transforms.CenterCrop(settings.crop),
            transforms.ToTensor(),
            transforms.Normalize(image.MEAN, image.STD),
        ]
    )
    out = []
    with torch.no_grad():
        for start in range(0, len(paths), size):
            batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in paths[start : start + size]])
            out.append(torch.nn.functional.normalize(model(batch).flatten(1), dim=1))
    return torch.cat(out).numpy()


def product(kind: torch.dtype) -> float:
    """GFLOP/s of the bare matrix product: what no convolution of that precision can exceed by much."""
    left = torch.randn(2048, 2048).to(kind)
    left @ left
    return 2 * 2048**3 / alternate({"product": lambda: left @ left}, 20)["product"] / 1e9


def peak(count: int) -> float:
    """Peak MiB of a process that extracts `count` small images."""
    command = [sys.executable, __file__, "--peak", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_peak(count: int) -> None:
    from crossmodal.core.files import peak_memory_mib

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world.draw_scene(3, 0)[0].save(folder / "0.jpg")
        items = pd.DataFrame({"item_id": [str(i) for i in range(count)], "modality": "image", "source": "0.jpg"})
        settings = image.Settings(network="shufflenet_v2_x0_5", weights="seeded", resize=64, crop=64)
        extraction.run("image", items, folder, settings, folder / "image.x", threads=64, modality="image")
    print(peak_memory_mib())


def main() -> None:
    logging.disable(logging.WARNING)
    found = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    for network, count in N.items():
        settings = image.Settings(network=network, weights="seeded")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            items = draw(folder, count)
            paths = [folder / n for n in items.source]
            keep: dict[str, np.ndarray] = {}

            def ours(items=items, folder=folder, settings=settings, keep=keep) -> None:
                target = Path(tempfile.mkdtemp(dir=folder)) / "image.x"  # an empty store: nothing is found again
                extraction.run("image", items, folder, settings, target, threads=64, modality="image")
                keep["ours"] = np.array(store.open_features(target).array)

            def loop(size, paths=paths, settings=settings, keep=keep) -> None:
                keep["plain"] = plain(paths, settings, size)

            def decode(paths=paths, settings=settings) -> None:
                for path in paths:
                    image.decode(path, settings)

            cases = {"ours": ours, "decode alone, one thread": decode}
            cases |= {f"plain, batches of {size}": functools.partial(loop, size) for size in SIZES}
            seconds = alternate(cases, 2)
        cosine = float((keep["ours"] * keep["plain"]).sum(1).min())
        ratios = {str(size): seconds[f"plain, batches of {size}"] / seconds["ours"] for size in SIZES}
        found[network] = {"images": count, "seconds": seconds, "ratio_by_batch": ratios, "least_cosine": cosine}
        told = ", ".join(f"{ratio:.2f} x in batches of {size}" for size, ratio in ratios.items())
        print(f"{network}: {count / seconds['ours']:.1f} images/s, plain fp32 loop {told}; least cosine {cosine:.5f}")
    found["gflops"] = {name: product(kind) for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    print(f"bare matrix product: {found['gflops']['bf16']:.0f} GFLOP/s in bf16, {found['gflops']['fp32']:.0f} in fp32")
    small, large = peak(2000), peak(8000)
    found["peak_mib"] = {"2000": small, "8000": large}
    print(f"peak memory: {small:.0f} MiB for 2,000 images, {large:.0f} MiB for 8,000")
    save("extraction", found)


if __name__ == "__main__":
    measure_peak(int(sys.argv[2])) if "--peak" in sys.argv else main()

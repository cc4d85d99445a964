"""Image extraction against a plain fp32 loop over the same network and files, in the same run."""

from __future__ import annotations

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
from crossmodal.features import image, store

N = {"resnet152": 48, "shufflenet_v2_x1_0": 256}


def draw(folder: Path, count: int) -> pd.DataFrame:
    """Photograph-sized scenes: 500 x 375 JPEG files."""
    names = []
    for index in range(count):
        picture, _ = world.draw_scene(3, index)
        picture.resize((500, 375)).save(folder / f"{index}.jpg", quality=90)
        names.append(f"{index}.jpg")
    return pd.DataFrame({"item_id": names, "modality": "image", "source": names})


def plain(network: str, paths: list[Path], settings: image.Settings) -> np.ndarray:
    """The loop of a first script: one image after another read, batches of 8 in float32, torch's own threads."""
    model, _ = image.build(settings)
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
        for start in range(0, len(paths), 8):
            batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in paths[start : start + 8]])
            out.append(torch.nn.functional.normalize(model(batch).flatten(1), dim=1))
    return torch.cat(out).numpy()


def peak(count: int) -> float:
    """Peak MiB of a process that extracts `count` small images."""
    command = [sys.executable, __file__, "--peak", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_peak(count: int) -> None:
    from crossmodal.files import peak_memory_mib

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world.draw_scene(3, 0)[0].save(folder / "0.jpg")
        items = pd.DataFrame({"item_id": [str(i) for i in range(count)], "modality": "image", "source": "0.jpg"})
        settings = image.Settings(network="shufflenet_v2_x0_5", weights="seeded", resize=64, crop=64)
        image.extract(items, folder, settings, folder / "image.x", threads=64)
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
                image.extract(items, folder, settings, folder / "f" / "image.x", threads=64)
                keep["ours"] = np.array(store.open_features(folder / "f" / "image.x").array)

            def loop(network=network, paths=paths, settings=settings, keep=keep) -> None:
                keep["plain"] = plain(network, paths, settings)

            def decode(paths=paths, settings=settings) -> None:
                for path in paths:
                    image.decode(path, settings)

            seconds = alternate({"ours": ours, "plain fp32 loop": loop, "decode alone, one thread": decode}, 3)
        cosine = float((keep["ours"] * keep["plain"]).sum(1).min())
        ratio = seconds["plain fp32 loop"] / seconds["ours"]
        found[network] = {"images": count, "seconds": seconds, "ratio": ratio, "least_cosine": cosine}
        rate = count / seconds["ours"]
        print(f"{network}: {ratio:.2f} x the plain fp32 loop, least cosine {cosine:.5f}, {rate:.1f} images/s")
    small, large = peak(2000), peak(8000)
    found["peak_mib"] = {"2000": small, "8000": large}
    print(f"peak memory: {small:.0f} MiB for 2,000 images, {large:.0f} MiB for 8,000")
    save("extraction", found)


if __name__ == "__main__":
    measure_peak(int(sys.argv[2])) if "--peak" in sys.argv else main()

"""Video extraction against decoding alone and the image extractor alone over the same frames, in the same run.

Decoding alone is a plain PyAV loop over all frames of a clip, no frame converted; the image extractor alone transforms
and computes the chosen frames, which lie in memory as pictures.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import av
import pandas as pd
import torch
from common import alternate, save
from PIL import Image

from crossmodal.datasets import world
from crossmodal.features import image, video
from crossmodal.features.engine import driver, extraction
from crossmodal.features.networks import backbones

N, FRAMES, ROUNDS = 96, 72, 3
NETWORKS = {"shufflenet_v2_x1_0": N, "resnet152": 2}  # network to how many of the clips it computes


def draw(folder: Path) -> pd.DataFrame:
    """Three seconds at 24 frames per second and 320 x 240: a view that moves over a drawn scene."""
    names = []
    for index in range(N):
        wide = world.draw_scene(3, index)[0].resize((400, 300))
        with av.open(str(folder / f"{index}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for n in range(FRAMES):
                view = wide.crop((n, n // 2, n + 320, n // 2 + 240))
                container.mux(stream.encode(av.VideoFrame.from_image(view)))
            container.mux(stream.encode())
        names.append(f"{index}.mp4")
    return pd.DataFrame({"item_id": names, "modality": "video", "source": names})


def chosen(path: Path, settings: video.Settings) -> list[Image.Image]:
    """The pictures that the extractor takes of a clip."""
    frames = list(video._decode_all(path))
    return [video._picture(frames[n][1]) for n in video.spread([second for second, _ in frames], settings.frames)]


def measure(network: str, items: pd.DataFrame, folder: Path) -> dict:
    settings = video.Settings(network=network, weights="seeded")
    paths = [folder / name for name in items.source]
    model, weights = backbones.build(settings)
    bare = settings.model_copy(update={"l2": False})
    pictures = [picture for path in paths for picture in chosen(path, settings)]
    batches = [pictures[n : n + settings.batch] for n in range(0, len(pictures), settings.batch)]
    probes = [partial(image.transform, pictures[0], settings)]
    run, facts = image.runner(model, bare, torch.device("cpu"), probes)
    threads = torch.get_num_threads()

    def compute(batch: list[Image.Image]) -> None:
        run(torch.stack([image.transform(picture, settings) for picture in batch]))

    def pooled(function, values) -> None:
        with driver.threads_of(threads) as (workers, _):
            list(workers.map(function, values))

    def plain(path: Path) -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for _ in container.decode(video=0):
                pass

    def ours() -> None:
        """The whole extraction but for making the network, which the network alone has behind it too."""
        made = mock.patch.object(backbones, "build", return_value=(model, weights))
        ready = mock.patch.object(image, "runner", return_value=(run, facts))
        with tempfile.TemporaryDirectory() as name, made, ready:
            extraction.run("video", items, folder, settings, Path(name) / "video.x", threads=threads, modality="video")

    cases = {
        "ours": ours,
        "decoding alone": lambda: pooled(plain, paths),
        "image extractor alone": lambda: pooled(compute, batches),
    }
    spent: dict[str, list[float]] = {name: [] for name in cases}

    def counted(name: str, case: Callable[[], None]) -> None:
        began = time.process_time()
        case()
        spent[name].append(time.process_time() - began)

    seconds = alternate({name: partial(counted, name, case) for name, case in cases.items()}, ROUNDS)
    cpu = {name: statistics.median(values) for name, values in spent.items()}  # what else runs here adds less to it
    share, cpu_share = (
        (taken["decoding alone"] + taken["image extractor alone"]) / taken["ours"] for taken in (seconds, cpu)
    )
    print(
        f"{network}: {100 * share:.0f} % of decoding alone + image extractor alone, "
        f"{100 * cpu_share:.0f} % in CPU time; "
        f"{len(pictures) / seconds['ours']:.1f} frames/s"
    )
    counts = {"clips": len(paths), "frames": len(pictures)}
    return {**counts, "seconds": seconds, "share": share, "cpu_seconds": cpu, "cpu_share": cpu_share, **facts}


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        items = draw(Path(name))
        found = {network: measure(network, items.iloc[:count], Path(name)) for network, count in NETWORKS.items()}
    save("video", {**found, "av": av.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main()

"""Mutated files to each reader, in a process of its own: `python readers.py COUNT [NAME ...]`.

Only results and errors of one line may come out, within `SECONDS` of a processor for each input and `MEMORY` bytes
above the idle process.
"""

import gzip
import io
import json
import resource
import signal
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from crossmodal.core import pictures, sounds
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.experiments.settings import read_yaml
from crossmodal.features import mesh, video
from crossmodal.features.networks import backbones
from crossmodal.language import wordvectors
from crossmodal.released.arrays import Place, open_array
from tests.fuzz import corpora

SECONDS, WAIT, MEMORY = 5, 120, 2**30
OFF = "OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n1 1 1\n3 0 1 2\n4 0 1 3 2\n"
OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 1\nf 1 2 3\nf 1//1 2//1 4//1 3//1\n"
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
)
STL = (
    "solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid x\n"
)
WORDS = "a 0.5 1 2\nb -1 0 3\nc 1e-3 2 4\n"
INSERTED = [
    b"",
    b"\0",
    b"\xff" * 8,
    b"[" * 3000,
    b"9" * 5000,
    b"\n",
    b" ",
    b"-1",
    b"nan",
    b"\\ud800",
    b"&a *a",
    b"/" * 9,
]


def saved(write, ending):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{ending}"
        write(path)
        return path.read_bytes()


def hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(12.0).reshape(4, 3), chunks=(2, 3), compression="gzip")


def seeds():
    """{name: (reader, ending, good files)}"""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8))
    films = [saved(lambda p: corpora.clips.write(p, 6), ending) for ending in (".mp4", ".mkv", ".avi", ".webm")]
    small = video.Settings(network="resnet18", weights="none", frames=3, resize=16, crop=16)
    array, state = np.arange(12.0).reshape(4, 3), {"a.weight": torch.ones(3, 2), "b": torch.zeros(1)}
    frame = pd.DataFrame({"x": [1.5, 2, 3], "name": ["a", "b", "c"]})
    parts = {"x": array, "s": scipy.sparse.csc_matrix(array), "names": np.array(["a", "bc"], object)}
    wave = np.sin(np.arange(2000) / 9).astype(np.float32)
    binary = b"2 3\na " + np.ones(3, "<f4").tobytes() + b"b " + np.ones(3, "<f4").tobytes()
    found = {f"picture {kind}": (pictures.read, "", [saved(lambda p, k=kind: picture.save(p, k), "")])
             for kind in pictures._formats()}  # fmt: skip
    grey = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257)
    found["picture of 16 bits"] = (
        pictures.read,
        "",
        [saved(lambda p, k=k: grey.save(p, k), "") for k in ("PNG", "TIFF")],
    )
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        data = saved(lambda p, k=kind: soundfile.write(p, wave, 8000, format=k), "")
        found[f"sound {kind}"] = (sounds.read, f".{kind.lower()}", [data])
    for ending, film in zip((".mp4", ".mkv", ".avi", ".webm"), films, strict=True):
        found[f"film {ending}"] = (lambda path: video.decode(path, small), ending, [film])
    for ending, text in ((".off", OFF), (".obj", OBJ), (".ply", PLY), (".stl", STL)):
        found[f"mesh {ending}"] = (mesh.read, ending, [text.encode()])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.off", OFF)
    found["mesh .zip"] = (mesh.read, ".zip", [packed.getvalue()])
    arrays = {
        ".npy": lambda p: np.save(p, array),
        ".npz": lambda p: np.savez_compressed(p, x=array),
        ".mat": lambda p: scipy.io.savemat(p, parts),
        ".h5": hdf5,
        ".parquet": frame.to_parquet,
        ".csv": lambda p: frame.to_csv(p, index=False),
    }
    for ending, write in arrays.items():
        data = [saved(write, ending)]
        data += [saved(lambda p: scipy.io.savemat(p, parts, do_compression=True), ending)] if ending == ".mat" else []
        names = ("x", "s", "names") if ending == ".mat" else ("x",)
        found[f"array {ending}"] = (lambda p, n=names: [whole(p, one) for one in n], ending, data)
    vectors = [WORDS.encode(), b"3 3\n" + WORDS.encode(), binary, gzip.compress(WORDS.encode())]
    found["word vectors"] = (lambda path: wordvectors.read(path, ["a", "b"]), ".txt", vectors)
    found["json"] = (read_json, ".json", [json.dumps({"images": [{"a": [1, 2.5, None, "ü"]}]}).encode()])
    found["yaml"] = (
        read_yaml,
        ".yaml",
        [yaml.safe_dump({"a": {"b": [1, 2.5, None, "x"]}}).encode(), b"a: &a [1]\nb: *a"],
    )
    found["state .pth"] = (backbones.read_state, ".pth", [saved(lambda p: torch.save(state, p), ".pth")])
    found["state .safetensors"] = (backbones.read_state, ".safetensors", [saved(lambda p: save_file(state, p), "")])
    found["place"] = (lambda path: Place.parse(path.read_text("latin1")), "", [b"f.npy#x.T/3[:9]"])
    return found


def whole(path, name):
    return open_array(path, "" if path.suffix == ".npy" else name).all()


def mutated(good):
    """Bytes of one of the files that are cut, changed, taken out, doubled or put in."""
    place = st.floats(0, 1)
    change = st.tuples(st.sampled_from(["cut", "set", "drop", "double", "insert"]), place, place, st.integers(0, 255))

    def apply(data, changes):
        for kind, where, length, value in changes:
            at = int(where * len(data))
            stop = at + 1 + int(length * min(64, len(data) - at))
            put = INSERTED[value % len(INSERTED)] + data[at:]
            pieces = {"cut": b"", "set": bytes([value]) + data[at + 1 :], "drop": data[stop:], "insert": put}
            pieces["double"] = data[at:stop] + data[at:]
            data = data[:at] + pieces[kind]
        return data

    return st.builds(apply, st.sampled_from(good), st.lists(change, min_size=1, max_size=6))


@contextmanager
def limited(name):
    def late(*_):
        raise AssertionError(f"{name}: takes more than {SECONDS} s of a processor, or waits for {WAIT} s")

    # Seconds of a processor, since a busy machine must not fail; those of the clock are for what waits for ever.
    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def fuzz(name, good, try_one, count):
    """Give mutated ones of the good files, {name: data} or [data], to `try_one(data, name)`."""
    good = good if isinstance(good, dict) else {"": good}
    changed = st.sampled_from(sorted(good)).flatmap(lambda file: st.tuples(st.just(file), mutated(good[file])))

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(changed)
    def run(drawn):
        file, data = drawn
        try:
            with limited(name), np.errstate(all="ignore"):
                try_one(data, file)
        except UserError as error:
            if not str(error).strip():
                raise AssertionError(f"{name}: an error without a word") from error

    for file, several in good.items():
        for data in several:
            try_one(data, file)
    run()


def alone(reader, ending):
    """A reader of one file."""

    def try_one(data, _):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"x{ending}"
            path.write_bytes(data)
            reader(path)

    return try_one


def among(folder):
    """A reader of a folder, in which one file has other content for this time."""

    def try_one(data, file):
        path = folder.root / file
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            folder.read()
        finally:
            path.write_bytes(before)

    return try_one


def main(count, names):
    laid = tempfile.TemporaryDirectory()
    found = {name: (good, alone(reader, ending)) for name, (reader, ending, good) in seeds().items()}
    for name, folder in corpora.of(Path(laid.name)).items():
        good = {file: [(folder.root / file).read_bytes()] for file in folder.files}
        found[f"folder {name}"] = (good, among(folder))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for name in names or found:
        print(name, flush=True)
        fuzz(name, *found[name], int(count))
    laid.cleanup()


if __name__ == "__main__":
    import logging
    import warnings

    logging.disable()
    warnings.simplefilter("ignore")
    main(sys.argv[1], sys.argv[2:])

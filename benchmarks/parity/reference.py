"""Runs an authors' program in its changed copy, by itself: `reference.py SPEC.json`, whose `found` names the result.

The program's own functions train, choose the epoch and rank; here they are only called, timed and written down.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import runpy
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

KS = (1, 5, 10)


class Clock:
    """Seconds of the wall and of the processor since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, processor = self.began
        return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def _vocabulary(spec: dict[str, Any]) -> Any:
    """The program's vocabulary of the given words, which lies where it looks for it."""
    import nltk.tokenize

    nltk.tokenize.word_tokenize = str.split  # the captions come as words with spaces between
    vocab = importlib.import_module("vocab")
    words = vocab.Vocabulary()
    for word in spec["words"]:
        words.add_word(word)
    name, folder = spec["options"]["data_name"], Path("vocab")
    folder.mkdir(exist_ok=True)
    if hasattr(vocab, "serialize_vocab"):
        vocab.serialize_vocab(words, str(folder / f"{name}_vocab.json"))
    else:
        with (folder / f"{name}_vocab.pkl").open("wb") as stream:
            pickle.dump(words, stream)
    return words


def _command_line(spec: dict[str, Any]) -> None:
    options = [f"--{key}" if value is True else f"--{key}={value}" for key, value in spec["options"].items()]
    sys.argv = ["train.py", *options]
    Path(spec["options"]["logger_name"]).mkdir(parents=True)


def _watched(train: Any, losses: list[float]) -> list[dict[str, float]]:
    """A list that fills with the mean loss and the validation's recalls of each epoch of the program's `train`."""
    epochs: list[dict[str, float]] = []
    _after(train, "train", lambda *_: epochs.append({"loss": statistics.fmean(losses)}), before=losses.clear)
    _after(train, "validate", lambda score: epochs[-1].update(recall_sum=float(score)))
    return epochs


def _recalls(of_images: np.ndarray, of_captions: np.ndarray) -> dict[str, float]:
    """Recalls in percent from the programs' ranks, which begin with 0."""
    ranks = {"image-to-text": of_images, "text-to-image": of_captions}
    return {f"{way} R@{k}": 100 * float((found < k).mean()) for way, found in ranks.items() for k in KS}


def captioned(spec: dict[str, Any]) -> dict[str, Any]:
    """VSE++, SCAN and GSMN: `train.main` with options of the command line, then `evalrank` of the best epoch."""
    _vocabulary(spec)
    train, evaluation = importlib.import_module("train"), importlib.import_module("evaluation")
    for module in (train, evaluation):  # `volatile` did this
        for function in ("encode_data", "shard_xattn", "shard_xattn_t2i", "shard_xattn_i2t"):
            if hasattr(module, function):
                setattr(module, function, torch.no_grad()(getattr(module, function)))
    losses: list[float] = []
    epochs = _watched(train, losses)
    system = next(getattr(train, name) for name in ("VSE", "SCAN", "GSMN") if hasattr(train, name))
    _after(system, "forward_loss", lambda loss: losses.append(loss.item()))
    _command_line(spec)
    clock = Clock()
    train.main()
    seconds = clock.read()
    best = Path(spec["options"].get("model_name", spec["options"]["logger_name"])) / "model_best.pth.tar"
    evaluation.evalrank(str(best), split="test")
    saved = torch.load("ranks.pth.tar")
    return {"numbers": _recalls(saved["rt"][0], saved["rti"][0]), "seconds": seconds, "epochs": epochs}


def mapped(spec: dict[str, Any]) -> dict[str, Any]:
    """PVSE: `train.main` on feature maps in the place of photographs, then its ranks of the test items.

    The program would choose the epoch on the test items; here it is given the validation items for that.
    """
    words = _vocabulary(spec)
    model, data, train, evaluation = (importlib.import_module(name) for name in ("model", "data", "train", "eval"))
    place = Path(spec["options"]["data_path"]) / spec["options"]["data_name"]

    class Given(torch.nn.Module):
        """Stands in for the image network, whose last feature maps are what it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.fc, self.avgpool = torch.nn.Linear(spec["width"], 1), torch.nn.AdaptiveAvgPool2d(1)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps

    class Maps(data.CocoDataset):
        """The program's captions of one partition, with maps (D, M) of the images that they belong to."""

        def __init__(self, name: str) -> None:
            self.maps = torch.from_numpy(np.load(place / f"{name}_ims.npy")).transpose(1, 2).contiguous()
            self.captions = (place / f"{name}_caps.txt").read_text(encoding="utf-8").splitlines()
            self.ids, self.vocab, self.transform = range(len(self.captions)), words, None

        def get_raw_item(self, index: int) -> tuple[None, str, int, None, torch.Tensor]:
            return None, self.captions[index], index // 5, None, self.maps[index // 5]

    def loader(name: str, size: int) -> torch.utils.data.DataLoader:
        shuffle = name == "train"
        return torch.utils.data.DataLoader(Maps(name), size, shuffle=shuffle, collate_fn=data.collate_fn)

    model.get_cnn = lambda arch, pretrained: Given()
    data.get_loaders = lambda args, _: (loader("train", args.batch_size), loader("dev", args.batch_size_eval))
    data.get_test_loader = lambda args, _: loader("dev", args.batch_size_eval)
    losses: list[float] = []
    epochs = _watched(train, losses)
    _after(train.PVSELoss, "forward", lambda result: losses.append(result[0].item()))
    _command_line(spec)
    clock = Clock()
    train.main()
    seconds = clock.read()
    best = torch.load(Path(spec["options"]["logger_name"]) / "model_best.pth.tar")
    system = model.PVSE(words.word2idx, best["args"])
    system.load_state_dict(best["model"])
    encoded = evaluation.encode_data(system, loader("test", best["args"].batch_size_eval))
    ranks = [rank(*encoded, nreps=5, return_ranks=True)[1][0] for rank in (evaluation.i2t, evaluation.t2i)]
    return {"numbers": _recalls(*ranks), "seconds": seconds, "epochs": epochs}


def _after(owner: Any, name: str, then: Callable, before: Callable = lambda: None) -> None:
    """Have `then` told the result of a function of the program each time it is called."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        before()
        result = original(*args, **options)
        then(result)
        return result

    setattr(owner, name, wrapped)


def labelled(spec: dict[str, Any]) -> dict[str, Any]:
    """DSCMR: `main.py` as it is, on features that lie where it looks for them; tested on items it has not chosen by."""
    module, epochs = importlib.import_module("train_model"), spec["options"]["epochs"]
    module.train_model.__defaults__ = (*module.train_model.__defaults__[:-1], epochs)  # `main` hands over none
    losses: list[float] = []
    _after(module, "calc_loss", lambda loss: losses.append(loss.item()) if loss.requires_grad else None)
    clock = Clock()
    with contextlib.redirect_stdout(io.StringIO()):
        left = runpy.run_path("main.py", run_name="__main__")
    seconds = clock.read()
    steps = len(losses) // epochs
    means = [statistics.fmean(losses[steps * epoch : steps * (epoch + 1)]) for epoch in range(epochs)]
    test = np.load(spec["test"])
    with torch.no_grad():
        image, text, *_ = left["model_ft"](torch.from_numpy(test["image"]), torch.from_numpy(test["text"]))
    sides = {"image": image.numpy(), "text": text.numpy()}
    numbers = {
        f"{a}-to-{b} mAP": 100 * float(left["fx_calc_map_label"](sides[a], sides[b], test["labels"]))
        for a, b in (("image", "text"), ("text", "image"))
    }
    return {"numbers": numbers, "seconds": seconds, "epochs": [{"loss": value} for value in means]}


def ranked(spec: dict[str, Any]) -> dict[str, Any]:
    """PVSE: its `i2t` and `t2i` on encodings that are given, five captions for each image in turn."""
    for name in ("model", "vocab", "data", "logger", "option"):  # what they import is not needed for ranks
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: None
        sys.modules[name] = module
    evaluation = importlib.import_module("eval")
    given = np.load(spec["arrays"])
    images, captions = given["image"].astype(np.float64), given["text"].astype(np.float64)
    repeated = np.repeat(images, 5, axis=0)
    clock = Clock()
    _, (of_images, _) = evaluation.i2t(repeated, captions, nreps=5, return_ranks=True)
    _, (of_captions, _) = evaluation.t2i(repeated, captions, nreps=5, return_ranks=True)
    seconds = clock.read()
    ranks = {"image-to-text": (of_images + 1).tolist(), "text-to-image": (of_captions + 1).tolist()}
    return {"ranks": ranks, "seconds": seconds}


def analysed(spec: dict[str, Any]) -> dict[str, Any]:
    """scikit-learn: CCA of the principal components of standardised features."""
    from sklearn.cross_decomposition import CCA
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from crossmodal.evaluation import average_precision

    given, s = np.load(spec["arrays"]), spec["settings"]
    clock = Clock()
    sides = {m: make_pipeline(StandardScaler(), PCA(s["components"], svd_solver="full")) for m in ("image", "text")}
    x, y = (one.fit_transform(given[f"{m}_train"].astype(float)) for m, one in sides.items())
    cca = CCA(s["dim"], scale=False, max_iter=100_000, tol=1e-12).fit(x, y)
    u, v = cca.transform(x, y)
    seconds = clock.read()
    tested = cca.transform(*(one.transform(given[f"{m}_test"]) for m, one in sides.items()))
    # Its projections have variances of their own; canonical ones have a variance of one.
    tested = [t / of_train.std(0) for t, of_train in zip(tested, (u, v), strict=True)]
    image, text = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in tested)
    labels = given["labels_test"]
    numbers = {
        f"canonical correlation {i + 1:02d}": float(np.corrcoef(u[:, i], v[:, i])[0, 1]) for i in range(s["dim"])
    }
    numbers["image-to-text mAP"] = 100 * float(average_precision(image, text, labels, labels).mean())
    numbers["text-to-image mAP"] = 100 * float(average_precision(text, image, labels, labels).mean())
    return {"numbers": numbers, "seconds": seconds}


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    sys.path[0] = str(Path.cwd())
    torch.set_num_threads(1)
    torch.manual_seed(spec["seed"])
    np.random.seed(spec["seed"])
    torch.cuda.is_available = lambda: False
    load = torch.load
    torch.load = lambda *args, **options: load(*args, **{"weights_only": False, **options})  # checkpoints hold options
    kinds = {"captioned": captioned, "mapped": mapped, "labelled": labelled, "ranked": ranked, "analysed": analysed}
    found = kinds[spec["kind"]](spec)
    Path(spec["found"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

"""The authors' programs as they run today: where each is to be had, and what of it must be changed in a copy.

None of their code is here. A program is copied from the folder that the user has into a temporary one, small
substitutions are made on names of old interfaces there, and modules that do not matter are stood in for (`stubs/`).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

STUBS = Path(__file__).parent / "stubs"


class UnfitError(Exception):
    """A program's folder is not there, or is not of the program that was expected."""


@dataclass(frozen=True)
class Change:
    """What a current interpreter or library needs changed in a program, by a regular expression."""

    what: str
    why: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class Program:
    name: str
    where: str
    """Its public repository."""
    files: tuple[str, ...]
    changes: tuple[Change, ...] = ()


INTEGERS = "Python 2 divided integers to integers"
SHARED = (
    Change("calls of `cuda()`", "a GPU was taken for granted", r"\.cuda\(\)", ""),
    Change(
        "`Variable(x, volatile=...)`",
        "a tensor is a variable today, and no_grad does what `volatile` did",
        r"Variable\(([^,()]*(?:\([^()]*\))?), volatile=\w+\)",
        r"\1",
    ),
    Change("`.data[0]`", "a scalar has no elements any more", r"\.data\[0\]", ".item()"),
    Change("`clip_grad_norm`", "it was renamed", r"\bclip_grad_norm\b", "clip_grad_norm_"),
    Change("`iteritems`", "Python 2's name", r"\.iteritems\(\)", ".items()"),
    Change("the number of an image", INTEGERS, r"\bindex\s*/\s*", "index // "),
    Change(
        "the text of a caption",
        "a line of a file is bytes",
        r"\bstr\((\w+)\)\.lower\(\)\.decode\(",
        r"\1.lower().decode(",
    ),
    Change("indexing by `ids`", "NumPy takes a tuple for several axes", r"\[ids([\],])", r"[list(ids)\1"),
    Change("5,000 captions of validation", "a smaller set has fewer", r"(\S+) = 5000$", r"\1 = min(5000, \1)"),
)

FILES = ("model.py", "train.py", "data.py", "evaluation.py", "vocab.py")
VSEPP = Program(
    "vsepp",
    "fartashf/vsepp",
    FILES,
    (*SHARED, Change("the number of images", INTEGERS, r"(\w+\.shape\[0\]) / 5", r"\1 // 5")),
)
SCAN = Program(
    "SCAN",
    "kuanghuei/SCAN",
    FILES,
    (
        *SHARED,
        Change("halves of the GRU's states", INTEGERS, r"\.size\(2\)/2", ".size(2)//2"),
        Change("the number of shards", INTEGERS, r"\)/shard_size", ")//shard_size"),
        Change("`nn.Softmax()`", "its dimension must be named", r"nn\.Softmax\(\)", "nn.Softmax(dim=1)"),
    ),
)
DSCMR = Program(
    "DSCMR",
    "penghu-cs/DSCMR",
    ("main.py", "model.py", "train_model.py", "load_data.py", "evaluate.py"),
    (Change("`import scipy`", "a submodule is imported by its name", r"^import scipy$", "import scipy.spatial"),),
)
CALLS, VOLATILE, _, CLIPPING, ITEMS, IMAGE, _, IDS, VALIDATION = SHARED
PVSE = Program(
    "pvse",
    "yalesong/pvse",
    tuple(
        f"{name}.py"
        for name in ("data", "eval", "logger", "loss", "model", "option", "train", "video_transforms", "vocab")
    ),
    (IDS, Change("`verbose=True` of the schedule", "it was taken away", r", verbose=True", "")),
)
CMPM = Program(
    "Deep-Cross-Modal-Projection-Learning-for-Image-Text-Matching",
    "labyrinth7x/Deep-Cross-Modal-Projection-Learning-for-Image-Text-Matching",
    ("utils/metric.py",),
)
CMR_SC = Program("MM_SemanticConsistency", "HuiChen24/MM_SemanticConsistency", ("model.py",), (CALLS, CLIPPING))
GSMN = Program(
    "GSMN",
    "CrossmodalGroup/GSMN",
    (*FILES, "graph_model.py", "layers.py"),
    (
        *(CALLS, VOLATILE, CLIPPING, ITEMS, IMAGE, IDS, VALIDATION),
        Change("`np.int`", "NumPy's name for Python's own type is gone", r"\bnp\.int\b", "int"),
        Change("halves of the GRU's states", INTEGERS, r"\.size\(2\) / 2", ".size(2) // 2"),
        Change("the number of shards", INTEGERS, r"\) / shard_size", ") // shard_size"),
        Change("the numbers of words", "a line of a file is bytes", r"caption\.split\(", "caption.decode().split("),
        Change("`map`", "it is no list any more", r"map\(int, caps\)", "list(map(int, caps))"),
        Change("36 regions", "a grid has nine cells", r"^ +assert k == 36$", ""),
    ),
)
DSVE = Program("dsve-loc", "technicolor-research/dsve-loc", ("misc/loss.py", "misc/weldonModel.py"))
ORDER = Program("order-embedding", "ivendrov/order-embedding", ("model.py", "layers.py", "utils.py"))

PARTS = {"models": ("__init__", "AoAModel", "AttModel", "BertCapModel", "CaptionModel", "FCModel", "M2Transformer"),
         "modules": ("losses",), "utils": ("__init__", "misc", "opts", "rewards")}  # fmt: skip
MORE = ("ShowTellModel", "TransformerModel", "cachedTransformer", "utils", "AttEnsemble")
LUO = Program(
    "ImageCaptioning.pytorch",
    "ruotianluo/ImageCaptioning.pytorch",
    (
        "captioning/__init__.py",
        *(f"captioning/{part}/{name}.py" for part, names in PARTS.items() for name in names),
        *(f"captioning/models/{name}.py" for name in MORE),
    ),
)
SGRVINOD = Program(
    "a-PyTorch-Tutorial-to-Image-Captioning", "sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning", ("models.py",)
)

CLIP_BENCHMARK = Program(
    "CLIP_benchmark",
    "LAION-AI/CLIP_benchmark",
    tuple(f"clip_benchmark/{name}.py" for name in ("__init__", "metrics/__init__", "metrics/zeroshot_retrieval")),
)

CAPTIONERS = (LUO, SGRVINOD)
PROGRAMS = {
    one.name: one for one in (VSEPP, SCAN, DSCMR, PVSE, CMPM, CMR_SC, GSMN, DSVE, ORDER, *CAPTIONERS, CLIP_BENCHMARK)
}


def copied(program: Program, folder: Path, target: Path) -> Path:
    """A copy of the program's own files at `target`, changed as it needs.

    Raises
    ------
    UnfitError : the folder is not there, lacks a file, or holds nothing of what is to be changed.
    """
    if not folder.is_dir():
        raise UnfitError(
            f"{program.name}: skipped; {folder} is not there (git clone https://github.com/{program.where})"
        )
    target.mkdir(parents=True)
    texts = {}
    for name in program.files:
        if not (folder / name).is_file():
            raise UnfitError(f"{program.name}: skipped; {folder} lacks {name}, which {program.where} has")
        texts[name] = (folder / name).read_text()
    for change in program.changes:
        found = 0
        for name, text in texts.items():
            texts[name], count = re.subn(change.pattern, change.replacement, text, flags=re.MULTILINE)
            found += count
        if not found:
            raise UnfitError(
                f"{program.name}: skipped; {folder} has no {change.pattern!r}, so it is another version of "
                f"{program.where} than the one that the changes were written for"
            )
    for name, text in texts.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    shutil.copytree(STUBS, target, dirs_exist_ok=True)
    return target

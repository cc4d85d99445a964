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


class Unfit(Exception):
    """A program's folder is not there, or is not of the program that was expected."""


@dataclass(frozen=True)
class Change:
    """What a current interpreter or library needs changed in a program, by a regular expression."""

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
PYTORCH = "PyTorch 0.3 had variables apart from tensors, `volatile` in the place of no_grad, and scalars of one element"
SHARED = (
    Change("a GPU was taken for granted", r"\.cuda\(\)", ""),
    Change(PYTORCH, r"Variable\(([^,()]*(?:\([^()]*\))?), volatile=\w+\)", r"\1"),
    Change(PYTORCH, r"loss\.data\[0\]", "loss.item()"),
    Change("renamed since", r"\bclip_grad_norm\b", "clip_grad_norm_"),
    Change("Python 2's name", r"\.iteritems\(\)", ".items()"),
    Change(INTEGERS, r"index\s*/\s*self\.im_div", "index // self.im_div"),
    Change("a line of a file is bytes", r"str\(caption\)\.lower\(\)\.decode\('utf-8'\)", "caption.decode().lower()"),
    Change("pinning made lists of tuples; NumPy takes a tuple for several axes", r"\[ids([\],])", r"[list(ids)\1"),
    Change(
        "5,000 captions were taken for granted in validation",
        r"self\.length = 5000",
        "self.length = min(5000, self.length)",
    ),
)

FILES = ("model.py", "train.py", "data.py", "evaluation.py", "vocab.py")
VSEPP = Program(
    "vsepp",
    "fartashf/vsepp",
    FILES,
    (*SHARED, Change(INTEGERS, r"images\.shape\[0\] / 5", "images.shape[0] // 5")),
)
SCAN = Program(
    "SCAN",
    "kuanghuei/SCAN",
    FILES,
    (
        *SHARED,
        Change(INTEGERS, r"cap_emb\.size\(2\)/2", "cap_emb.size(2)//2"),
        Change(INTEGERS, r"-1\)/shard_size", "-1)//shard_size"),
        Change("the dimension of a softmax must be named", r"nn\.Softmax\(\)", "nn.Softmax(dim=1)"),
    ),
)
DSCMR = Program(
    "DSCMR",
    "penghu-cs/DSCMR",
    ("main.py", "model.py", "train_model.py", "load_data.py", "evaluate.py"),
    (Change("a submodule is to be imported by its name", r"^import scipy$", "import scipy.spatial"),),
)
PVSE = Program("pvse", "yalesong/pvse", ("eval.py", "loss.py"))

PROGRAMS = {one.name: one for one in (VSEPP, SCAN, DSCMR, PVSE)}


def copied(program: Program, folder: Path, target: Path) -> Path:
    """A copy of the program's own files at `target`, changed as it needs.

    Raises
    ------
    Unfit : the folder is not there, lacks a file, or holds nothing of what is to be changed.
    """
    if not folder.is_dir():
        raise Unfit(f"{program.name}: skipped; {folder} is not there (git clone https://github.com/{program.where})")
    target.mkdir(parents=True)
    texts = {}
    for name in program.files:
        if not (folder / name).is_file():
            raise Unfit(f"{program.name}: skipped; {folder} lacks {name}, which {program.where} has")
        texts[name] = (folder / name).read_text()
    for change in program.changes:
        found = 0
        for name, text in texts.items():
            texts[name], count = re.subn(change.pattern, change.replacement, text, flags=re.MULTILINE)
            found += count
        if not found:
            raise Unfit(
                f"{program.name}: skipped; {folder} has no {change.pattern!r}, so it is another version of "
                f"{program.where} than the one that the changes were written for"
            )
    for name, text in texts.items():
        (target / name).write_text(text)
    shutil.copytree(STUBS, target, dirs_exist_ok=True)
    return target

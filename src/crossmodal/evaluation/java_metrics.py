"""METEOR 1.5 and SPICE of generated captions, by their authors' Java programs, which pycocoevalcap packs.

Both need Java and the extra `captions`; SPICE also needs the parser of Stanford CoreNLP 3.6.0, which pycocoevalcap
fetches. METEOR of a set is computed from the sums of its statistics, as coco-caption prints it, and is not the mean
over images.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossmodal.core import limits
from crossmodal.core.errors import UserError

Caption = Sequence[str]
References = Sequence[Sequence[Caption]]
NAMES = ("meteor", "spice")
CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SHOWN = 300  # characters of what a program says of its failure
BETWEEN = "|||"  # separates the sentences of a line that METEOR reads


def measured(name: str, generated: Sequence[Caption], references: References) -> tuple[float, np.ndarray]:
    """METEOR or SPICE of all captions, and (N,) of each one, in per cent.

    Raises
    ------
    UserError : Java, pycocoevalcap or, for SPICE, its parser is missing, or the program fails.
    ValueError : there are no captions, or the numbers of images differ.
    """
    if len(generated) != len(references) or not len(generated):
        raise ValueError(f"{len(references)} lists of references for {len(generated)} captions")
    java, folder = _program(name)
    said, written = [_plain(caption) for caption in generated], [[*map(_plain, others)] for others in references]
    try:
        whole, each = (_spice if name == "spice" else _meteor)(java, folder, said, written)
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or b"").decode(errors="replace") or str(error)
        raise UserError(f"{name}: its Java program failed ({' '.join(told.split())[:SHOWN]})") from None
    return 100.0 * whole, 100.0 * np.array(each, np.float64)


def _plain(caption: Caption) -> str:
    """A caption as one line, without the separator of METEOR's lines: words of others could hold either."""
    return " ".join(" ".join(caption).replace(BETWEEN, " ").split())


def _meteor(java: str, folder: Path, said: list[str], written: list[list[str]]) -> tuple[float, list[float]]:
    """METEOR of all captions and of each, from the statistics that the program gives for each line."""
    command = [java, "-jar", "-Xmx2G", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    seconds, began = _seconds(said), time.monotonic()
    with tempfile.TemporaryFile() as faults:

        def ended() -> ValueError:
            if time.monotonic() - began >= seconds:
                return ValueError(f"more than {seconds:g} s")
            faults.seek(0)
            return ValueError(faults.read(SHOWN).decode(errors="replace") or "it has ended")

        files = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": faults}
        try:
            with subprocess.Popen(command, cwd=folder, encoding="utf-8", **files) as process:
                clock = threading.Timer(seconds, process.kill)
                clock.start()

                def answer() -> str:
                    if line := process.stdout.readline().strip():
                        return line
                    raise ended()

                def ask(*parts: str) -> str:
                    print(f" {BETWEEN} ".join(parts), file=process.stdin, flush=True)
                    return answer()

                try:
                    counted = [ask("SCORE", *others, caption) for caption, others in zip(said, written, strict=True)]
                    each = [float(ask("EVAL", *counted)), *(float(answer()) for _ in said[1:])]
                    return float(answer()), each
                finally:
                    clock.cancel()
                    process.kill()
        except BrokenPipeError:  # it has ended before it read what was asked: why stands on its standard error
            raise ended() from None


def _spice(java: str, folder: Path, said: list[str], written: list[list[str]]) -> tuple[float, list[float]]:
    """SPICE of all captions, their mean, and of each; what is parsed is kept beside the program."""
    asked = [{"image_id": i, "test": said[i], "refs": written[i]} for i in range(len(said))]
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / "in.json", Path(place) / "out.json"
        source.write_text(json.dumps(asked))
        (folder / "cache").mkdir(exist_ok=True)
        options = [str(source), "-cache", str(folder / "cache"), "-out", str(target), "-subset", "-silent"]
        command = [java, "-jar", "-Xmx8G", "spice-1.0.jar", *options]
        subprocess.run(command, cwd=folder, capture_output=True, timeout=_seconds(said), check=True)
        scores = {one["image_id"]: float(one["scores"]["All"]["f"]) for one in json.loads(target.read_text())}
    each = [scores[i] for i in range(len(said))]
    return float(np.mean(each)), each


def _seconds(said: list[str]) -> float:
    """The time after which a program is ended: a second for each caption beside `limits.item_seconds`."""
    return limits.current().item_seconds + len(said)


def _program(name: str) -> tuple[str, Path]:
    """The path of Java, and the folder of the program that measures `meteor` or `spice`."""
    java = shutil.which("java")
    if java is None:
        raise UserError(
            f"{name}: is measured by a Java program, and no `java` is on the PATH; install a Java runtime "
            "(8 or later), or leave the metric out"
        )
    try:
        import pycocoevalcap
    except ImportError:
        raise UserError(
            f"{name}: needs pycocoevalcap, which packs its Java program: pip install 'crossmodal[captions]'"
        ) from None
    folder = Path(next(iter(pycocoevalcap.__path__))).resolve() / name
    if name == "spice" and (missing := [jar for jar in CORENLP if not (folder / "lib" / jar).exists()]):
        raise UserError(
            f"spice: its parser is missing ({folder / 'lib' / missing[0]}); fetch it from Stanford with "
            "`python -c 'from pycocoevalcap.spice.get_stanford_models import get_stanford_models as get; get()'`"
        )
    return str(Path(java).absolute()), folder

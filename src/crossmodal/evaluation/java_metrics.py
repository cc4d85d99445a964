"""METEOR 1.5 and SPICE of generated captions, by their authors' Java programs, which pycocoevalcap packs.

Both need Java and the extra `captions`; SPICE also needs the parser of Stanford CoreNLP 3.6.0, which pycocoevalcap
fetches. METEOR of a set is computed from the sums of its statistics, as coco-caption prints it, and is not the mean
over images.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core.errors import UserError

Caption = Sequence[str]
References = Sequence[Sequence[Caption]]
NAMES = ("meteor", "spice")
CORENLP = "stanford-corenlp-3.6.0.jar"


def measured(name: str, generated: Sequence[Caption], references: References) -> tuple[float, np.ndarray]:
    """METEOR or SPICE of all captions, and (N,) of each one, in per cent.

    Raises
    ------
    UserError : Java, pycocoevalcap or, for SPICE, its parser is missing, or the program fails.
    ValueError : there are no captions, or the numbers of images differ.
    """
    if len(generated) != len(references) or not len(generated):
        raise ValueError(f"{len(references)} lists of references for {len(generated)} captions")
    scorer = _scorer(name)
    said = {i: [" ".join(caption)] for i, caption in enumerate(generated)}
    written = {i: [" ".join(caption) for caption in others] for i, others in enumerate(references)}
    try:
        whole, each = scorer.compute_score(written, said)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: its Java program failed ({' '.join(str(error).split())})") from None
    each = [one["All"]["f"] for one in each] if name == "spice" else each
    return 100.0 * float(whole), 100.0 * np.array(each, np.float64)


def _scorer(name: str) -> Any:
    """The wrapper of the Java program that measures `meteor` or `spice`."""
    if shutil.which("java") is None:
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
    if name == "meteor":
        from pycocoevalcap.meteor.meteor import Meteor

        return Meteor()
    folder = Path(next(iter(pycocoevalcap.__path__))) / "spice" / "lib"
    if not (folder / CORENLP).exists():
        raise UserError(
            f"spice: its parser is missing ({folder / CORENLP}); fetch it from Stanford with "
            "`python -c 'from pycocoevalcap.spice.get_stanford_models import get_stanford_models as get; get()'`"
        )
    from pycocoevalcap.spice.spice import Spice

    return Spice()

"""CIDEr-D, BLEU and ROUGE-L of 5,000 images with five references each, beside coco-caption's own program.

Captions are drawn from 8,000 words by Zipf's law, about eleven words each. Ratios are of times in the same run.
"""

from __future__ import annotations

import numpy as np
from common import alternate, save
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from crossmodal.evaluation import captions

IMAGES, REFERENCES, WORDS = 5000, 5, 8000


def main() -> None:
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    drawn = iter(rng.choice(WORDS, size=20 * IMAGES * (REFERENCES + 1), p=share / share.sum()).astype(str).tolist())
    lengths = iter(rng.integers(8, 15, IMAGES * (REFERENCES + 1)).tolist())

    def caption() -> list[str]:
        return [next(drawn) for _ in range(next(lengths))]

    references = [[caption() for _ in range(REFERENCES)] for _ in range(IMAGES)]
    generated = [others[0][:6] + caption()[:5] for others in references]
    theirs = {i: [" ".join(words) for words in others] for i, others in enumerate(references)}
    ours = {i: [" ".join(words)] for i, words in enumerate(generated)}
    seconds = alternate(
        {
            "cider": lambda: captions.cider(generated, references),
            "their cider": lambda: Cider().compute_score(theirs, ours),
            "bleu": lambda: captions.bleu(captions.bleu_sums(generated, references).sum(0)),
            "their bleu": lambda: Bleu(4).compute_score(theirs, ours, verbose=0),
            "rouge": lambda: captions.rouge_l(generated, references),
            "their rouge": lambda: Rouge().compute_score(theirs, ours),
        },
        3,
    )
    ratios = {name: seconds[f"their {name}"] / seconds[name] for name in ("cider", "bleu", "rouge")}
    for name, ratio in ratios.items():
        print(f"{name}: {seconds[name]:.2f} s, {ratio:.1f} times as fast as coco-caption's own program")
    save("captions", {"seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()

"""Figures that other steps have drawn, as sections of the page: those that are there are shown, with their captions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from markupsafe import Markup

from crossmodal.errors import UserError
from crossmodal.reporting import figures

log = logging.getLogger(__name__)

# (section, its title in the navigation, its title): {figure: (title, caption)}
SECTIONS: dict[tuple[str, str, str], dict[str, tuple[str, str]]] = {
    ("embeddings", "Embeddings", "Embeddings"): {
        "embeddings": (
            "",
            "Test images and a caption of each where the model puts them, in two dimensions (t-SNE on cosines); a line "
            "joins what belongs together.",
        ),
    },
    ("vocabulary", "Vocabulary", "Words of regions and of captions"): {
        "vocabulary": (
            "",
            "What is named in the images that a split leaves without a caption, and the words of the test captions: "
            "tokens with a letter or digit, however rare (vocabulary.csv also counts those of four times or more). "
            "Overlap is of both in per cent of either. Our s_g are names of regions, scored above 0.3, where the paper "
            "has those of image classifiers.",
        ),
    },
    ("reconstructions", "Reconstructions", "Reconstructions"): {
        "reconstructions": (
            "",
            "Test images and captions, and what is made again of the parts of their encodings (captions in blue).",
        ),
        "parts": (
            "Separation",
            "Means over runs. The printed specific loss is least where semantic and specific parts are opposite (-1).",
        ),
    },
    ("spaces", "Spaces", "Spaces that grow a modality at a time"): {
        "transformation": (
            "Before and after training",
            "Test items of five classes where the first weights put them and where the trained ones do, in two "
            "dimensions (t-SNE on cosines). Colours are modalities, shapes are classes.",
        ),
        "space-losses": ("Losses", "By epoch, stage after stage; dashes part the stages."),
        "space-attention": ("Attention", "Mean mAP@50 with and without parts of the aligned attention."),
        "space-blocks": ("Blocks", "Attention blocks that are trained when a modality is added."),
        "space-time": ("Time", "Milliseconds of an iteration as modalities are added, measured."),
        "space-reconstruction": (
            "Adversarial reconstruction",
            "Mean squared difference of the input vectors from those that generators make again of their places in the "
            "space, by epoch (log scale), and the last epoch's as a multiple of the first one's. The thesis reports "
            "that it explodes, and that retrieval still works where classes and triplets are trained beside it.",
        ),
        "space-directions": ("Directions", "mAP@50 of every direction: rows ask, columns answer."),
    },
}


def drawn(folder: Path) -> list[dict[str, Any]]:
    """The sections of which a figure lies in `folder`, each with its figures as SVG that follows the page's theme."""
    found = []
    for (name, short, title), known in SECTIONS.items():
        parts = []
        for stem, (subtitle, caption) in known.items():
            path = folder / f"{stem}.svg"
            if path.exists():
                try:
                    text = path.read_text(encoding="utf-8")
                    svg = figures.inline(text, f"{title}: {subtitle}" if subtitle else title)
                except (UserError, UnicodeDecodeError) as error:
                    log.warning("%s: %s", path, error)
                    continue
                parts.append({"title": subtitle, "caption": caption, "svg": Markup(svg)})
        if parts:
            found.append({"id": name, "short": short, "title": title, "parts": parts})
    return found

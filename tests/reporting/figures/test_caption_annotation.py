"""CIDEr against annotation: one line per captioner, with its own label on the axis."""

from __future__ import annotations

import pandas as pd

from crossmodal.reporting.figures.annotation import annotated, annotation


def metrics() -> pd.DataFrame:
    facts = {"task": "captioning", "dataset": "toy", "variant": "", "seed": 0, "aspect": "image-to-caption",
             "protocol": "all", "n_queries": 10, "n_gallery": 0, "paper": "p"}  # fmt: skip
    rows = [
        {**facts, "split": split, "model": model, "metric": metric, "value": value}
        for model, values in (("nic", (20.0, 60.0)), ("updown", (30.0, 90.0)))
        for split, value in zip(("10pct-1cap", "full"), values, strict=True)
        for metric, value in (("cider", value), ("bleu4", value / 4))
    ]
    rows.append({**facts, "split": "full", "model": "chance", "metric": "cider", "value": 4.0})
    return pd.DataFrame(rows).assign(name=lambda frame: frame.model)


def test_captioners_are_drawn_by_their_share():
    drawn = annotated(metrics(), "cider")
    assert drawn.trained.groupby("name").value.apply(list).to_dict() == {"nic": [20, 60], "updown": [30, 90]}
    assert drawn.controls.value.tolist() == [4]
    svg = annotation(metrics(), {"toy": "Toy photographs"}, "cider")
    for text in ("CIDEr", "Toy photographs: image to caption", "nic", "updown", "chance"):
        assert f"<!-- {text} -->" in svg or f">{text}<" in svg
    assert "R@" not in svg

"""Errors of adversarial reconstructions of input vectors, and retrieval beside them (CVS thesis, figure 28)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pydantic import Field

from crossmodal.experiments import Job, Strict
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS
from crossmodal.reporting.figures.learning_curves import criterion_of
from crossmodal.reporting.results import runs


class Options(Strict):
    curves: dict[str, list[str]] = Field(description="kind of training of the reconstruction to its experiments")


class Figure(base.Figure):
    section = base.SPACES
    place = 60
    title = "Adversarial reconstruction"
    caption = (
        "Mean squared difference between the input vectors and those that the generators reconstruct from their "
        "embeddings, by epoch (log scale), and that of the last epoch as a multiple of that of the first. The thesis "
        "reports that it explodes, and that retrieval still works where classes and triplets are trained beside it."
    )
    Options = Options

    def wanted(self) -> bool:
        return bool(self.options)

    def reads(self) -> list[str]:
        return self.scope.files("history.parquet", [job for jobs in self.curves().values() for job in jobs])

    def draw(self) -> str:
        histories = {
            label: [runs.history(self.scope.runs / job.key) for job in jobs] for label, jobs in self.curves().items()
        }
        return adversarial_reconstruction(histories)

    def curves(self) -> dict[str, list[Job]]:
        """{label: the runs whose mean is drawn}"""
        return {
            label: self.scope.jobs_of(paper, experiments)
            for paper, options in self.options.items()
            for label, experiments in options.curves.items()
        }


def adversarial_reconstruction(histories: Mapping[str, list[pd.DataFrame]]) -> str:
    """Reconstruction errors of images and texts, and the criterion on the validation items, by epoch.

    The first two panels show the mean squared difference of a modality's input vectors from their reconstructions (log
    scale), one line per way of training, with the factor between its first and last epoch. The third shows the
    criterion on the validation items.

    Parameters
    ----------
    histories : label to the epochs of its runs; runs without epochs are left out.
    """
    trained = {label: [frame for frame in frames if len(frame)] for label, frames in histories.items()}
    trained = {label: frames for label, frames in trained.items() if frames}
    with canvas.style():
        figure = canvas.figure(10.2, 3.9)
        if not trained:
            return canvas.empty(figure, "No run with an adversarial reconstruction yet.")
        axes = figure.subplots(1, 3)
        criterion, what = criterion_of(pd.concat([frame for frames in trained.values() for frame in frames]))
        panels = [("image_difference", "Image"), ("text_difference", "Text"), (criterion, what[:1].upper() + what[1:])]
        for ax, (column, title) in zip(axes, panels, strict=True):
            factors = []
            for colour, (label, frames) in zip(COLOURS, trained.items(), strict=False):
                curves = pd.concat([frame.set_index("epoch")[column] for frame in frames], axis=1)
                for _, curve in curves.items():
                    ax.plot(curve.index, curve, color=colour, linewidth=0.8, alpha=0.4)
                mean = curves.mean(axis=1)
                ax.plot(mean.index, mean, color=colour, linewidth=2, label=label)
                factors.append((f"× {mean.iloc[-1] / mean.iloc[0]:.3g}", colour))
            ax.set_title(title, pad=20)  # above the factors
            ax.set_xlabel("Epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            if column == criterion:
                ax.set_ylim(bottom=0)
                continue
            ax.set_yscale("log")
            for n, (text, colour) in enumerate(factors):
                place = (2 * n + 1) / (2 * len(factors))
                ax.text(place, 1.02, text, transform=ax.transAxes, ha="center", color=colour)
        axes[0].set_ylabel("Mean squared difference")
        axes[2].set_ylabel("mAP@50, sum (%)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        return canvas.svg(figure)

"""Captions of tables: sources, test items, how to read the numbers, fallbacks and quality control."""

from __future__ import annotations

import pandas as pd

from crossmodal.experiments import Paper, Plan, Table
from crossmodal.reporting.results import order
from crossmodal.reporting.results.comparison import PUBLISHED_ONLY
from crossmodal.tasks.base import metric as metric_of
from crossmodal.tasks.base import metric_names, tasks

NO_SYSTEM = "no system yet (published only)"


def caption_of(plan: Plan, paper: Paper, table: Table, frame: pd.DataFrame, placed: bool) -> list[tuple[str, str]]:
    """(kind, sentence) for each thing that a table's reader must know besides its numbers.

    Parameters
    ----------
    frame : the table's rows of `comparison.parquet`.
    placed : whether best and second best numbers are marked.
    """
    titles = {name: dataset.title for name, dataset in plan.params.datasets.items()}
    done = frame[frame.status == "done"]
    played = plan.dataset_of(table.dataset)
    title, original = titles.get(played, played), titles.get(table.dataset, table.dataset)
    stand_in = played != table.dataset
    source = f"{paper.authors}, {paper.venue} {paper.year}{f', doi:{paper.doi}' if paper.doi else ''}, {table.source}"
    said = [("published", f"Published: {source}: {table.protocol}.")]
    if (frame.status == PUBLISHED_ONLY).all():
        said.append(("ours", f"Here: {NO_SYSTEM}."))
        return [*said, ("note", table.note)] if table.note else said
    where = f"{original} is played by the stand-in “{title}”" if stand_in else f"the test items of {title}"
    folds = plan.folds_of(table)
    how = "ranked as a whole" if folds == 1 else f"mean over {folds} folds"
    texts = "captions" if plan.params.datasets[played].relevance == "group" else "texts"
    what = (
        f"Here: {where}{_sizes(done, folds, texts)}, {how}; scale {plan.params.scale}; mean ± sample s.d. over seeds."
    )
    said.append(("ours", what))
    if stand_in:
        said.append(
            (
                "warning",
                "A difference between the stand-in and a published number says nothing about either system, so that "
                "none is shown; compare our rows with each other, and their order with the published one.",
            )
        )
    elif frame.significant.notna().any():
        said.append(("rules", "* the published number lies outside the 95 % confidence interval of our mean."))
    if ordered := order.sentence(frame):
        said.append(("rules", ordered))
    if done.p_holm.notna().any():
        said.append(("rules", _tested(table, done)))
    said.append(("rules", _measures(table)))
    if placed:
        said.append(("rules", "Best in bold, second underlined, of the same data and annotation; ours apart."))
    fallbacks = dict.fromkeys(one for text in done.fallbacks.dropna() for one in str(text).split("; "))
    if fallbacks:
        said.append(("fallback", f"Fallbacks: {'; '.join(fallbacks)}."))
    qc = str(frame.qc.iloc[0]) if len(frame) else ""
    if qc.startswith("off"):
        said.append(("qc", f"Quality control failed, do not use these numbers: {qc.removeprefix('off: ')}."))
    elif qc.startswith("not run") and len(done):
        said.append(("qc", f"Quality control incomplete: {qc.removeprefix('not run: ')} not run."))
    if table.note:
        said.append(("note", table.note))
    return said


def _order(name: str) -> tuple[int, str]:
    """Sort key of a metric: the known ones in their order, then the others by name."""
    known = metric_names()
    return (known.index(name) if name in known else len(known)), name


def _measures(table: Table) -> str:
    """A sentence that explains the metrics of a table's columns."""
    metrics = {column.metric for column in table.columns}
    known = [metric_of(name) for name in sorted(metrics, key=_order)]
    said = list(dict.fromkeys(metric.meaning for metric in known if metric is not None))
    if any(task.ranked and task.metric(name) for task in tasks().values() for name in metrics):
        said.append("ranks are 1-based and ties count against the model")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if not text.startswith("mAP") else f"{text}."


def _tested(table: Table, done: pd.DataFrame) -> str:
    """A sentence that explains the arrows of a table."""
    what = f"the row “{table.baseline}”" if table.baseline else "the best other system with the same annotation"
    seeds = (
        "over queries and over seeds" if done.n_seeds.max() > 1 else "over queries; one seed tells nothing of others"
    )
    return (
        f"↑ better, ↓ worse than {what}, {seeds} (paired permutations, Welch's test; Holm's correction over the table, "
        "p < 0.05); 95 % intervals by bootstrap and p-values are in the CSV."
    )


def _sizes(done: pd.DataFrame, folds: int, texts: str) -> str:
    """The numbers of test queries, such as ` (200 images and 1,000 captions to test on)`; `texts` names the texts."""
    ranked = done[done.n_gallery.fillna(1) > 0]  # sums and other measurements rank no items
    counts = ranked.dropna(subset=["n_queries"]).drop_duplicates("aspect").set_index("aspect").n_queries
    plural = {"image": "images", "text": texts, "mesh": "meshes", "audio": "sounds", "video": "videos"}
    plural["class"] = "classes"
    named = []
    for aspect, n in counts.items():
        query = str(aspect).split("-to-")[0]
        named.append(f"{int(n):,} {plural.get(query, query)}")
    *most, last = dict.fromkeys(named) or [""]
    listed = f"{', '.join(most)} and {last}" if most else last
    return f" ({listed}{' a fold' if folds > 1 else ' to test on'})" if named else ""

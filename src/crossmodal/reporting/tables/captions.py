"""Captions of tables: sources, test items, how to read the numbers, fallbacks and quality control."""

from __future__ import annotations

from crossmodal.experiments import Paper, Plan, Table, named_experiments
from crossmodal.reporting.results import order
from crossmodal.reporting.results.cells import PUBLISHED_ONLY, Cells
from crossmodal.tasks.base import metric as metric_of
from crossmodal.tasks.base import metric_names, tasks, too_few

NO_SYSTEM = "no system yet (published only)"


def caption_of(plan: Plan, paper: Paper, table: Table, cells: Cells, placed: bool) -> list[tuple[str, str]]:
    """(kind, sentence) for each thing that a table's reader must know besides its numbers.

    Parameters
    ----------
    cells : the cells of the table.
    placed : whether best and second best numbers are marked.
    """
    done = [cell for cell in cells if cell["status"] == "done"]
    sentences = [("published", sentence) for sentence in [_published(plan, paper, table)] if sentence]
    if all(cell["status"] == PUBLISHED_ONLY for cell in cells):
        sentences.append(("ours", f"Here: {NO_SYSTEM}."))
        return [*sentences, ("note", table.note)] if table.note else sentences
    played = _played(plan, paper, table)
    folds = plan.folds_of(table)
    how = f"{'ranked' if _is_ranked(table) else 'tested'} as a whole" if folds == 1 else f"mean over {folds} folds"
    where = "; ".join(_where(plan, by, names, done, folds) for by, names in played.items())
    what = f"Here: {where}, {how}; scale {plan.params.scale}; mean ± sample s.d. over seeds."
    sentences.append(("ours", what))
    if table.has_published and any(names != [by] for by, names in played.items()):
        sentences.append(
            (
                "warning",
                "A difference between the stand-in and a published number says nothing about either system, so that "
                "none is shown; compare our rows with each other, and their order with the published one.",
            )
        )
    if any(cell["significant"] is not None for cell in cells):
        sentences.append(("rules", "* the published number lies outside the 95 % confidence interval of our mean."))
    if ordered := order.sentence(cells):
        sentences.append(("rules", ordered))
    if any(cell["p_holm"] is not None for cell in done):
        sentences.append(("rules", _tested(table, done)))
    sentences.append(("rules", _measures(table)))
    sentences += [("warning", text) for text in [too_few(done)] if text]
    if placed:
        sentences.append(
            ("rules", "Best in bold, second underlined, among the same data and annotation; ours separately.")
        )
    texts = [cell["fallbacks"] for cell in done if cell["fallbacks"] is not None]
    fallbacks = dict.fromkeys(fallback for text in texts for fallback in text.split("; "))
    if fallbacks:
        sentences.append(("fallback", f"Fallbacks: {'; '.join(fallbacks)}."))
    qc = cells[0]["qc"] if cells else ""
    if qc.startswith("off"):
        sentences.append(("qc", f"Quality control failed, do not use these numbers: {qc.removeprefix('off: ')}."))
    elif qc.startswith("not run") and done:
        sentences.append(("qc", f"Quality control incomplete: {qc.removeprefix('not run: ')} not run."))
    if table.note:
        sentences.append(("note", table.note))
    return sentences


def _published(plan: Plan, paper: Paper, table: Table) -> str:
    """Where a table's numbers, or at least its systems, are published; empty for a table of one's own."""
    about = ", ".join(filter(None, [paper.reference, table.source]))
    about = ": ".join(filter(None, [about, table.protocol]))
    if table.has_published or not about:
        return f"Published: {about}." if about else ""
    if paper.reference:
        return f"Of {about}."
    played = any(names != [by] for by, names in _played(plan, paper, table).items())
    return f"{'Meant for' if played else 'Measured on'} {about}."


def _played(plan: Plan, paper: Paper, table: Table) -> dict[str, list[str]]:
    """{data set that is used: the data sets of experiments whose part it plays}, for the experiments of a table."""
    trained = [paper.experiments[name].dataset for row in table.rows for name in named_experiments(row)]
    played: dict[str, list[str]] = {}
    for name in dict.fromkeys(trained):
        played.setdefault(plan.dataset_of(name), []).append(name)
    return played


def _where(plan: Plan, by: str, names: list[str], done: Cells, folds: int) -> str:
    """The test items of one data set, with their numbers, and whose part it plays."""
    datasets = plan.params.datasets
    texts = "captions" if datasets[by].relevance == "group" else "texts"
    sizes = _sizes([cell for cell in done if cell["ours_dataset"] == by], folds, texts)
    if names == [by]:
        return f"the test items of {datasets[by].title}{sizes}"
    *most, last = [datasets[name].title if name in datasets else name for name in names]
    listed = f"{', '.join(most)} and {last} are" if most else f"{last} is"
    return f"{listed} played by the stand-in “{datasets[by].title}”{sizes}"


def _order(name: str) -> tuple[int, str]:
    """Sort key of a metric: the known ones in their order, then the others by name."""
    names = metric_names()
    return (names.index(name) if name in names else len(names)), name


def _metrics(table: Table) -> set[str]:
    return {column.metric for column in table.columns}


def _is_ranked(table: Table) -> bool:
    """Whether a column of the table is measured on rankings."""
    return any(task.ranked and task.metric(name) for task in tasks().values() for name in _metrics(table))


def _measures(table: Table) -> str:
    """A sentence that explains the metrics of a table's columns."""
    metrics = _metrics(table)
    metrics_of = [metric_of(name) for name in sorted(metrics, key=_order)]
    meanings = list(dict.fromkeys(metric.meaning for metric in metrics_of if metric is not None))
    if _is_ranked(table):
        meanings.append("ranks are 1-based and ties count against the model")
    text = "; ".join(meanings)
    return f"{text[0].upper()}{text[1:]}." if not text.startswith("mAP") else f"{text}."


def _tested(table: Table, done: Cells) -> str:
    """A sentence that explains the arrows of a table."""
    what = f"the row “{table.baseline}”" if table.baseline else "the best other system with the same annotation"
    seeds = (
        "over queries and over seeds"
        if max(cell["n_seeds"] for cell in done) > 1
        else "over queries; one seed does not show the spread over seeds"
    )
    return (
        f"↑ better, ↓ worse than {what}, {seeds} (paired permutations, Welch's test; Holm's correction over the table, "
        "p < 0.05); 95 % intervals by bootstrap and p-values are in the CSV."
    )


def _sizes(done: Cells, folds: int, texts: str) -> str:
    """The numbers of test queries, such as ` (200 images and 1,000 captions to test on)`; `texts` names the texts."""
    counts: dict[str, int] = {}
    for cell in done:
        if cell["n_queries"] is not None and cell["n_gallery"] != 0:  # sums and other measurements rank no items
            counts.setdefault(cell["aspect"], cell["n_queries"])
    plural = {"image": "images", "text": texts, "mesh": "meshes", "audio": "sounds", "video": "videos"}
    plural["class"] = "classes"
    named = []
    for aspect, n in counts.items():
        query = aspect.split("-to-")[0]
        named.append(f"{n:,} {plural.get(query, query)}")
    *most, last = dict.fromkeys(named) or [""]
    listed = f"{', '.join(most)} and {last}" if most else last
    return f" ({listed}{' a fold' if folds > 1 else ' to test on'})" if named else ""

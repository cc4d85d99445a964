"""A whole table worked out by hand: means, deviations, places, marks, settings, and what its caption says."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from crossmodal.core.files import write_json, write_text
from crossmodal.experiments import CONTROLS, Experiment
from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results import published
from crossmodal.reporting.tables import terminal, views, writers
from crossmodal.reporting.tables.views import Cell, View, letters, setting
from tests.reporting.toy import COLUMNS, PAPER, seen, toy_metrics, toy_plan


@pytest.fixture(scope="module")
def compared() -> pd.DataFrame:
    return comparing.compare(toy_plan(), toy_metrics())


@pytest.fixture(scope="module")
def view(compared: pd.DataFrame) -> View:
    return seen(toy_plan(), compared)


def test_means_and_deviations(compared: pd.DataFrame) -> None:
    found = compared.set_index(["row", "column"])
    assert found.ours_mean[0].tolist() == pytest.approx([64.0, 5.0])
    assert found.ours_mean[2].tolist() == pytest.approx([50.3, 7.25])
    assert found.ours_sd[0].tolist() == pytest.approx([21**0.5, 7**0.5])  # (16 + 1 + 25) / 2, (4 + 1 + 9) / 2
    assert found.ours_sd[2].tolist() == pytest.approx([0.02**0.5, 0.125**0.5])
    assert found.ours_sd[1].isna().all()  # one seed has none, and 0 would claim one
    assert found.difference.isna().all()  # a stand-in's numbers are not less or more than published ones
    assert found.tau.unique().tolist() == pytest.approx(
        [0.5**0.5]
    )  # see `test_the_order_of_rows_stands_in_the_caption`
    assert found.tau_rows.unique().tolist() == [4]
    assert found.n_seeds.groupby("row").first().tolist() == [3, 1, 2, 0, 3, 3, 3]
    assert found.n_expected[0].tolist() == [3, 3]
    assert found.n_queries[0].tolist() == [200, 1000]
    assert found.n_gallery[0].tolist() == [1000, 200]


def test_the_table_is_this(view: View) -> None:
    """Every line of it, marks and all."""
    rows = [
        row
        if isinstance(row, str)
        else " | ".join(f"{cell.text}{'' if not cell.place else f'#{cell.place}'}" for cell in row)
        for row in views.grid(view)
    ]
    assert rows == [
        "One | 128 | 7 | published | 61.5#1 | 4.0#1 | ",
        " | 16 |  | here | 64.0 ± 4.6#1 | 5.0 ± 2.6#2 | 3 seeds",
        "Two | 100 |  | published | 61.5#1 | 6.25#2 | ",
        " | 64 |  | here | 64.0#1 | 2.5#1 | 1 of 3 seeds",
        "Three |  |  | published | 59.9#2 | 9.5 | ",
        " | 24 |  | here | 50.3 ± 0.1#2 | 7.2 ± 0.4 | 2 of 3 seeds",
        "Elsewhere | 1500 |  | published | 52.0 | – | no system yet (published only)",
        "Few",
        "One |  |  | published | 30.0 | – | ",
        " | 16 |  | here | 12.5 ± 1.8 | 42.0 ± 2.6 | 3 seeds",
        "Beside",
        "chance |  |  | here | 0.5 ± 0.1 | 500.0 ± 10.0 | 3 seeds",
        "oracle |  |  | here | 100.0 ± 0.0 | 1.0 ± 0.0 | 3 seeds",
    ]


def test_differences_are_shown_where_the_data_set_is_the_published_one() -> None:
    """A star: the published number is outside our mean's interval, of three seeds 2.48 s.d. to either side."""
    plan = toy_plan(scale="full")
    found = seen(plan, comparing.compare(plan, toy_metrics("flickr30k")))
    lines = [[cell.text for cell in row[3:6]] for row in views.grid(found) if not isinstance(row, str)]
    assert [line[1:] for line in lines if line[0] == "difference"] == [
        ["+2.5", "+1.0"],
        ["+2.5", "−3.8"],
        ["−9.6*", "−2.2"],
        ["−17.5*", "–"],
    ]
    text = " ".join(sentence for _, sentence in found.caption)
    assert "stand-in" not in text
    assert "Kendall's τ 0.71" in text  # at any scale


def test_the_order_of_rows_stands_in_the_caption(view: View) -> None:
    """R@1, where 61.5 stands twice: five pairs agree, of five and six that are no ties. Mean rank: two of three agree.

    (5 + 2 - 1) / ((5 + 3) * (6 + 3)) ** 0.5 = 0.707
    """
    text = " ".join(sentence for _, sentence in view.caption)
    assert re.search(
        r"Order of the rows, ours and the published: Kendall's τ 0.71 \(95 % interval −?\d.\d\d to 1.00, by bootstrap "
        r"over the 4 rows and the seeds of each\), over all columns.",
        text,
    )
    assert "so that none is shown" in text


def cells_of(html: str) -> list[list[str]]:
    """The numbers of each row of numbers, with the class that marks their place before them."""
    found = []
    for row in re.findall(r"<tr class=\"(?:published|ours).*?</tr>", html, re.S):
        numbers = re.findall(r'<td class="number([^"]*)".*?class="value">([^<]*)<', row, re.S)
        found.append([f"{kind.strip()}:{text}" if kind.strip() else text for kind, text in numbers])
    return found


def test_best_and_second_in_every_rendering(view: View) -> None:
    assert cells_of(writers.to_html(view))[:6] == [
        ["best:61.5", "best:4.0"], ["best:64.0", "second:5.0"],
        ["best:61.5", "second:6.25"], ["best:64.0", "best:2.5"],
        ["second:59.9", "9.5"], ["second:50.3", "7.2"],
    ]  # fmt: skip
    md = [
        [cell.strip() for cell in line.split("|")[5:7]] for line in writers.to_md(view).splitlines() if "| here" in line
    ]
    assert md[:3] == [
        ["**64.0 ± 4.6**", "<u>5.0 ± 2.6</u>"],
        ["**64.0**", "**2.5**"],
        ["<u>50.3 ± 0.1</u>", "7.2 ± 0.4"],
    ]
    tex = [line for line in writers.to_tex(view).splitlines() if "& here &" in line]
    assert r"\textbf{64.0{\tiny$\pm$4.6}} & \underline{5.0{\tiny$\pm$2.6}}" in tex[0]
    assert r"\textbf{64.0} & \textbf{2.5}" in tex[1]
    assert r"\underline{50.3{\tiny$\pm$0.1}} & 7.2{\tiny$\pm$0.4}" in tex[2]
    stream = io.StringIO()
    terminal.show(view, Console(file=stream, width=200, force_terminal=True, color_system="standard"))
    line = next(line for line in stream.getvalue().splitlines() if "64.0 ± 4.6" in line)
    bold, underlined = (re.search(rf"\x1b\[([\d;]*)m *{number}", line)[1].split(";") for number in ("64.0", "5.0"))
    assert ("1" in bold, "4" in bold) == (True, False)
    assert ("1" in underlined, "4" in underlined) == (False, True)


def test_places_are_of_one_direction_and_one_data_set_as_it_is_played() -> None:
    """Two published data sets that one stand-in plays are one for our numbers, and two for the published ones."""
    rows = [
        {"label": "One", "published": [20.0, 30.0], "experiment": "one"},
        {"label": "Two", "published": [10.0, 40.0], "experiment": "two", "dataset": "coco"},
        {"label": "Three", "published": [15.0, 50.0], "experiment": "three"},
    ]
    columns = [COLUMNS[0], {"aspect": "text-to-image", "metric": "recall@1"}]
    plan = toy_plan({"rows": rows, "columns": columns})
    metrics = toy_metrics().replace({"mean_rank": "recall@1"})
    found = seen(plan, comparing.compare(plan, metrics))
    assert [[cell.published_place for cell in line.cells] for line in found.lines] == [[1, 2], [0, 0], [2, 1]]
    assert [[cell.place for cell in line.cells] for line in found.lines] == [[1, 2], [1, 0], [2, 1]]


def test_a_cells_marks() -> None:
    better = Cell(60.0, 64.05, 1.0, 4.05, True, 3, 3, "done", low=62.0, high=66.5, against="better")
    assert better.ours_text == "64.0 ± 1.0↑"  # a half is rounded to even, as 64.05 is stored below it
    assert better.difference_text == "+4.0*"
    assert better.interval_text == "95 % interval 62.0 to 66.5"
    worse = Cell(60.0, 56.0, None, -4.0, False, 1, 3, "done", against="worse")
    assert (worse.ours_text, worse.difference_text, worse.interval_text) == ("56.0↓", "−4.0", "")
    assert Cell(60.0, 60.0, None, 0.0, False, 1, 3, "done").difference_text == "±0.0"
    assert [letters(n) for n in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def test_numbers_keep_the_digits_that_were_printed() -> None:
    assert [views.number(value) for value in (61.5, 6.25, 0.1234567, 7, 29.175)] == [
        "61.5",
        "6.25",
        "0.123457",
        "7.0",
        "29.175",
    ]
    assert views.ours(6.25) == "6.2"


@pytest.mark.parametrize(
    ("mean", "differs"),
    # Published is 61.5, the s.d. of three seeds 1: the half-width is t(.975, 2) / sqrt(3) = 4.303 / 1.732 = 2.484.
    [
        (63.7, False),  # outside with three degrees of freedom (1.837), or with t(.95) (1.686)
        (64.2, True),  # inside without the division by sqrt(3)
        (59.3, False),
        (58.8, True),
    ],
)
def test_the_critical_value_is_that_of_t(mean: float, differs: bool) -> None:
    plan = toy_plan(scale="full")
    metrics = toy_metrics("flickr30k")
    own = (metrics.model == "vsepp") & (metrics.variant == "") & (metrics.split == "full")
    metrics.loc[own & (metrics.metric == "recall@1"), "value"] = [mean - 1, mean, mean + 1]
    found = comparing.compare(plan, metrics)
    cell = found[(found.row == 0) & (found.column == 0)].iloc[0]
    assert cell.comparable
    assert bool(cell.significant) is differs
    alone = found[(found.row == 1) & (found.column == 0)].iloc[0]
    assert alone.comparable
    assert pd.isna(alone.significant)  # one seed does not show the spread over seeds


# -- settings, columns before the numbers, captions -----------------------------------------------------------------


def test_settings_that_differ_are_those_of_the_defaults_and_of_scale_full() -> None:
    one = Experiment(**PAPER["experiments"]["one"])
    ours = {"dim": 256, "layers": 1, "batch_size": 16, "epochs": 30, "lr": 0.001}
    assert published.differences(one, ours) == {
        "batch_size": [16, 128],
        "lr": [0.001, 2e-4],
        "dim": [256, 512],  # 1024 by default, but 512 is what the experiment has at full scale
        "layers": [1, 2],
    }
    two = Experiment(**PAPER["experiments"]["two"])
    assert published.differences(two, {"margin": 0.5}) == {}  # at every scale
    assert published.differences(two, {"margin": 0.2}) == {"margin": [0.2, 0.5]}
    for control in CONTROLS:
        about = Experiment(model=control, dataset="xmedia")
        assert published.differences(about, {"modalities": ["image", "mesh"]}) == {}


def test_what_a_file_would_have_to_be_brought_for_is_a_fallback_and_no_difference() -> None:
    sg = Experiment(model="sg", dataset="coco")
    assert published.differences(sg, {"expansion": "own"}) == {}
    a3vse = Experiment(model="a3vse", dataset="coco", stand_in={"dim": 8})
    assert published.differences(a3vse, {"word_embedding": "glove.txt", "dim": 8}) == {"dim": [8, 512]}


def test_at_the_published_settings_nothing_differs() -> None:
    plan = toy_plan(scale="full")
    found = comparing.compare(plan, toy_metrics("flickr30k"))
    assert (found.status == "done").any()
    assert found.ours_settings.isna().all()
    assert not any("Settings" in text for _, text in seen(plan, found).notes)


def test_a_runs_own_settings_win_over_the_plans(tmp_path: Path) -> None:
    """A run of before params.yaml was changed is told by what it was trained with."""
    plan = toy_plan()
    for seed in (0, 1, 2):
        folder = tmp_path / f"world/full/vsepp/seed{seed}"
        resolved = published.resolved(plan.jobs[f"world/full/vsepp/seed{seed}"]) | {"batch_size": 48, "dim": 512}
        write_text(folder / "config.yaml", yaml.safe_dump({"settings": resolved}))
        write_json(folder / "manifest.json", {"words": 412, "pairs": 77, "fallbacks": []})
    found = comparing.compare(plan, toy_metrics(), folder=tmp_path)
    cell = found[(found.row == 0) & (found.column == 0)].iloc[0]
    assert json.loads(cell.ours_extra) == {"batch_size": 48, "words": 412}
    differ = json.loads(cell.ours_settings)
    assert differ["batch_size"] == [48, 128]
    assert "dim" not in differ
    rows = [row for row in views.grid(seen(plan, found)) if not isinstance(row, str)]
    assert [cell.text for cell in rows[0][:4]] == ["One", "128", "7", "published"]
    assert [cell.text for cell in rows[1][:4]] == ["", "48", "412", "here"]
    html = writers.to_html(seen(plan, found))
    extras = re.findall(r'<td class="extra">([^<]*)</td>', html)
    assert extras[:4] == ["128", "7", "48", "412"]
    write_text(tmp_path / "world/full/vsepp/seed0/config.yaml", "settings: [1]")
    again = comparing.compare(plan, toy_metrics(), folder=tmp_path)  # damaged: by the plan
    assert json.loads(again.ours_extra[0])["batch_size"] == 16


def test_what_differs_is_said_below_the_table_in_every_rendering(compared: pd.DataFrame) -> None:
    first, second, *others = PAPER["tables"][0]["rows"]
    rows = [
        {**first, "differs": "trained on <half> of 50 % of it.", "note": "as printed"},
        {**second, "differs": "trained on <half> of 50 % of it."},
        {**others[0], "note": "another note"},
        *others[1:],
    ]
    plan = toy_plan({"rows": rows})
    frame = comparing.compare(plan, toy_metrics())
    found = seen(plan, frame)
    assert [line.marks for line in found.lines[:4]] == ["a, b", "b", "c", ""]
    settings = [text for mark, text in found.notes if not mark]
    assert found.notes[:3] == [
        ("a", "as printed"), ("b", "Differs: trained on <half> of 50 % of it."), ("c", "another note")
    ]  # fmt: skip
    assert len(settings) == 3
    assert settings[0].startswith("Settings here of One, in brackets those of the paper, or our default")
    assert "batch_size 16 (128)" in settings[0]
    # Rows of one label are one system, with each pair of values once: published 512 or, of the sparse row, 1024, for
    # which the layers are as published.
    assert 'dim 256 (512) in "One" or 256 (1024) in "Few: One", layers 1 (2) in "One".' in settings[0]
    assert "batch_size 64 (128)" in settings[1]
    assert "margin" not in settings[1]
    assert "batch_size" not in settings[2]  # 24 is what it has at every scale
    html, md, tex = writers.to_html(found), writers.to_md(found), writers.to_tex(found)
    assert "One<sup>a, b</sup>" in html
    assert "<li><sup>b</sup> Differs: trained on &lt;half&gt; of 50 % of it.</li>" in html
    assert "<li>Settings here of One," in html
    assert "One (a, b)" in md
    assert "\n(b) Differs: trained on &lt;half> of 50 % of it.  " in md
    assert "\nSettings here of One," in md
    assert "One (a, b) &" in tex
    assert r"(b) Differs: trained on \textless{}half\textgreater{} of 50 \% of it.\par" in tex
    assert r"batch\_size 16 (128)" in tex
    stream = io.StringIO()
    terminal.show(found, Console(file=stream, width=200))
    text = " ".join(stream.getvalue().split())
    assert "One (a, b)" in text
    assert "(b) Differs: trained on <half> of 50 % of it." in text
    assert "Settings here of One," in text
    csv = pd.read_csv(io.StringIO(writers.to_csv(found)))
    assert csv.differs.notna().tolist() == [True] * 4 + [False] * 10
    assert not compared.differs.notna().any()


def test_settings_are_written_as_params_yaml_writes_them() -> None:
    values = (0.0005, 128, True, None, [64, 128], "unit", 1.0)
    assert [setting(value) for value in values] == ["0.0005", "128", "true", "none", "[64, 128]", "unit", "1"]


@pytest.mark.parametrize(
    ("metrics", "said", "unsaid"),
    [
        (["recall@1", "recall@10"], ["Recall in per cent; ranks are 1-based"], ["mAP", "lower"]),
        (["map@50"], ["mAP@K in per cent: mean precision at the relevant ones", "ranks are 1-based"], ["ecall"]),
        (["recall@5", "map@50"], ["Recall in per cent; mAP@K in per cent"], ["lower"]),
        (["map"], ["Mean average precision in per cent; ranks"], ["ecall", "mAP@"]),
        (["map@R"], ["mAP@R in per cent"], ["ecall", "mAP@K"]),
        (["accuracy"], ["Accuracy in per cent."], ["ecall", "ranks are", "mAP"]),
        (["relatedness"], ["Relatedness: 100 times a rank correlation."], ["ecall", "per cent", "ranks are"]),
        (["median_rank"], ["Of ranks the lower is the better; ranks are 1-based"], ["ecall", "per cent"]),
        (["recall_sum"], ["Sums of recalls in per cent; ranks"], ["mAP"]),
    ],
)
def test_the_caption_says_what_the_columns_hold(metrics: list[str], said: list[str], unsaid: list[str]) -> None:
    columns = [{"aspect": "image-to-text", "metric": metric} for metric in metrics]
    row = {"label": "One", "published": [1.0] * len(metrics), "experiment": "one"}
    plan = toy_plan({"columns": columns, "rows": [row]})
    caption = seen(plan, comparing.compare(plan, toy_metrics())).caption
    rules = " ".join(text for kind, text in caption if kind == "rules")
    assert all(text in rules for text in said), rules
    assert not any(text in rules for text in unsaid), rules


def test_the_caption_says_how_many_were_ranked_and_in_how_many_folds(view: View) -> None:
    (here,) = [text for kind, text in view.caption if kind == "ours"]
    assert "(200 images and 1,000 captions to test on), ranked as a whole" in here
    plan = toy_plan({"folds": 5}, scale="full")
    folded = seen(plan, comparing.compare(plan, toy_metrics("flickr30k", "fold5")))
    (here,) = [text for kind, text in folded.caption if kind == "ours"]
    assert "(200 images and 1,000 captions a fold), mean over 5 folds" in here
    assert folded.lines[0].cells[0].mean == pytest.approx(64.0)
    labelled = toy_plan(datasets={"world": {"relevance": "label"}})  # whose texts are no captions
    frame = comparing.compare(labelled, toy_metrics())
    assert "(200 images and 1,000 texts to test on)" in dict(seen(labelled, frame).caption)["ours"]
    whole = comparing.compare(plan, toy_metrics("flickr30k"))  # of the whole test set there is no number of this table
    assert not (whole.status == "done").any()


# -- controls -------------------------------------------------------------------------------------------------------


def test_titles_of_keys_and_of_sentences():
    assert views.title("image-to-text") == "Image-to-text"
    assert views.title("lr_drop") == "Lr drop"
    assert views.title("the README of open_clip") == "The README of open_clip"
    assert views.title("open_clip, docs/openclip_retrieval_results.csv") == (
        "open_clip, docs/openclip_retrieval_results.csv"
    )
    assert views.title("") == ""

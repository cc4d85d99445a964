"""Claims on hand-made runs whose verdicts are worked out by hand, and how they are shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from scipy import stats
from typer.testing import CliRunner

from crossmodal import cli, experiments
from crossmodal.experiments import Plan
from crossmodal.reporting.page import report
from crossmodal.reporting.results import claims
from crossmodal.reporting.results.cases import trend
from crossmodal.reporting.results.collect import collect
from crossmodal.reporting.tables import verdicts
from tests.reporting.toy import PAPER, toy_plan

CLAIM = {
    "id": "c",
    "says": "One is above two.",
    "source": "table 1",
    "kind": "above",
    "metrics": ["recall@1"],
    "aspects": ["image-to-text"],
    "pairs": [["one", "two"]],
}
RUNS = {"one": "full/vsepp", "two": "full/vse0", "three": "full/vsepp.batch24", "few": "10pct-5cap/vsepp"}
N = 8  # images, each with five captions


def plan_of(*stated: dict[str, Any], **over: Any) -> Plan:
    """The toy with claims: the first with the keys of `CLAIM` where it has none of its own."""
    plan = toy_plan(None, **over)
    paper = {**PAPER, "name": "toy", "claims": [{**CLAIM, **one} for one in stated]}
    return Plan(plan.params, {"toy": experiments.validated(experiments.Paper, paper, "toy.yaml")})


def make(folder: Path, name: str, hits: list[int], seed: int = 0, ids: list[str] | None = None, **columns: Any) -> Path:
    """A run whose images find their captions at rank 1 or else at rank 2, or at the ranks that are given."""
    dataset = columns.pop("dataset", "world")
    asked = "category_retrieval" if dataset == "media_world" else "instance_retrieval"
    run = folder / dataset / RUNS.get(name, name) / f"seed{seed}"
    task = run / asked
    task.mkdir(parents=True)
    ranks = columns.get("rank", [1 if hit else 2 for hit in hits])
    ids = ids or [f"img{i}" for i in range(len(ranks))]
    frame = pd.DataFrame({"protocol": "all", "aspect": "image-to-text", "fold": 0, "query_id": ids, "query_group": ids})
    frame.assign(rank=ranks, **{k: v for k, v in columns.items() if k != "rank"}).to_parquet(task / "examples.parquet")
    numbers = {"recall@1": 100 * np.mean(np.array(ranks) <= 1), "mean_rank": np.mean(ranks)}
    about = {"aspect": "image-to-text", "protocol": "all", "n_queries": len(ranks), "n_gallery": 5 * N}
    split, _, system = RUNS.get(name, name).partition("/")
    model, _, variant = system.partition(".")
    job = {"dataset": dataset, "split": split, "model": model, "variant": variant, "seed": seed}
    rows = [{**about, "metric": metric, "value": float(value)} for metric, value in numbers.items()]
    (task / "metrics.json").write_text(json.dumps({"job": job, "numbers": rows}))
    return run


def outcome(plan: Plan, folder: Path, jobs: dict | None = None) -> pd.DataFrame:
    return claims.test(plan, collect(plan, folder, jobs), jobs, folder)


def steady(folder: Path, rows: dict[str, list[int]], **more: Any) -> None:
    """Three seeds that make no difference, so that the verdict is that of a t-test over queries."""
    for name, hits in rows.items():
        for seed in (0, 1, 2):
            make(folder, name, hits, seed, **more)


BETTER = {"one": [1, 1, 1, 1, 1, 1, 0, 0], "two": [1, 1, 0, 0, 0, 0, 0, 0]}
"""Differences of 100 for four queries and 0 for four: 50, with a standard deviation of 53.45."""
P = stats.t.sf(50 / (53.4522 / 8**0.5), 7)  # 0.0166


def test_above_by_hand(tmp_path: Path) -> None:
    steady(tmp_path, BETTER)
    row = outcome(plan_of({}), tmp_path).iloc[0]
    assert row.ours == pytest.approx(50.0)
    assert row.p == pytest.approx(P, rel=1e-4) == pytest.approx(0.0166, abs=5e-5)
    assert row.p_holm == row.p
    assert row.p_opposite == pytest.approx(1 - P, rel=1e-4)
    half = stats.t.ppf(0.975, 7) * 53.4522 / 8**0.5
    assert (row.ours_low, row.ours_high) == pytest.approx((50 - half, 50 + half), rel=1e-4)
    assert (row.verdict, row.seeds, row.dataset, row.published_dataset) == ("supported", 3, "world", "flickr30k")
    assert row.published == pytest.approx(0.0)  # 61.5 of both
    turned = outcome(plan_of({"pairs": [["two", "one"]]}), tmp_path).iloc[0]
    assert (turned.verdict, turned.ours) == ("contradicted", pytest.approx(-50.0))
    assert turned.p_opposite == pytest.approx(P, rel=1e-4)
    assert turned.reason == ""


def test_lower_is_better_of_ranks(tmp_path: Path) -> None:
    """Ranks 1 and 2 in place of hits and misses: mean ranks of 1.25 and 1.75."""
    steady(tmp_path, BETTER)
    row = outcome(plan_of({"metrics": ["mean_rank"]}), tmp_path).iloc[0]
    assert (row.verdict, row.ours, row.p) == ("supported", pytest.approx(-0.5), pytest.approx(P, rel=1e-4))
    assert row.ours_low < row.ours < row.ours_high < 0
    turned = outcome(plan_of({"metrics": ["mean_rank"], "pairs": [["two", "one"]]}), tmp_path).iloc[0]
    assert turned.verdict == "contradicted"


def by_seed(folder: Path, metric: str, values: dict[str, list[float]]) -> None:
    """Runs with a number that is no mean over queries, of each seed."""
    for name, numbers in values.items():
        for seed, value in enumerate(numbers):
            run = make(folder, name, [1] * N, seed)
            content = json.loads((run / "instance_retrieval" / "metrics.json").read_text())
            content["numbers"].append({**content["numbers"][0], "metric": metric, "value": value})
            (run / "instance_retrieval" / "metrics.json").write_text(json.dumps(content))


def test_undecided_says_how_many_seeds_it_would_take(tmp_path: Path) -> None:
    """Standard deviations of 2 and a difference of 2: the power that the noncentral t gives to Welch's test is 0.8."""
    by_seed(tmp_path, "median_rank", {"one": [8.0, 10.0, 12.0], "two": [14.0, 10.0, 12.0], "three": [12.0, 8.0, 10.0]})
    row = outcome(plan_of({"metrics": ["median_rank"]}), tmp_path).iloc[0]
    assert (row.verdict, row.ours, row.reason) == ("undecided", pytest.approx(-2.0), "")
    needed = int(row.seeds_needed)

    def power(seeds: int) -> float:
        freedom = 2 * (seeds - 1)
        return stats.nct.sf(stats.t.ppf(0.95, freedom), freedom, 2 / (2 * (2 / seeds) ** 0.5))

    assert power(needed - 1) < 0.81
    assert power(needed + 1) > 0.79
    assert needed == 14
    same = outcome(plan_of({"metrics": ["median_rank"], "pairs": [["one", "three"]]}), tmp_path).iloc[0]
    assert (same.verdict, same.ours, same.reason) == ("undecided", 0.0, "more than 100 seeds")
    assert pd.isna(same.seeds_needed)


def test_one_seed_tells_nothing(tmp_path: Path) -> None:
    for name, hits in BETTER.items():
        make(tmp_path, name, hits)
    row = outcome(plan_of({}), tmp_path).iloc[0]
    assert (row.verdict, row.reason, row.seeds) == ("undecided", claims.ONE_SEED, 1)
    assert row.ours == pytest.approx(50.0)
    assert pd.isna(row.p)
    assert pd.isna(row.seeds_needed)


def test_holms_correction_is_within_a_paper_and_data_set(tmp_path: Path) -> None:
    """P = .0166 of three tests and another of 0: the least is corrected by 3, this one by 2 and no less than before."""
    steady(tmp_path, {**BETTER, "three": [0] * 8})
    plan = plan_of(
        {"id": "a"},
        {"id": "again"},  # the same test, which counts once
        {"id": "b", "kind": "near", "margin": 90.0, "pairs": [["one", "one"]]},
        {"id": "d", "pairs": [["two", "three"]]},
    )
    rows = outcome(plan, tmp_path).set_index("claim")
    last = stats.t.sf(25 / (stats.tstd([100, 100, 0, 0, 0, 0, 0, 0]) / 8**0.5), 7)  # .085
    assert rows.p.tolist() == pytest.approx([P, P, 0.0, last], rel=1e-4)
    assert rows.p_holm.tolist() == pytest.approx([2 * P, 2 * P, 0.0, last], rel=1e-4)
    assert rows.verdict.tolist() == ["supported", "supported", "supported", "undecided"]
    more = plan_of({"id": "a"}, {"id": "d", "pairs": [["two", "three"]]}, {"id": "e", "pairs": [["three", "two"]]})
    rows = outcome(more, tmp_path).set_index("claim")
    assert rows.p_holm["a"] == pytest.approx(3 * P, rel=1e-4)
    assert rows.verdict["a"] == "supported"


def test_several_pairs_must_each_hold(tmp_path: Path) -> None:
    steady(tmp_path, {**BETTER, "three": [1, 1, 1, 1, 1, 0, 0, 0]})
    row = outcome(plan_of({"pairs": [["one", "two"], ["one", "three"]]}), tmp_path).iloc[0]
    assert row.ours == pytest.approx((50.0 + 12.5) / 2)
    assert row.p == pytest.approx(stats.t.sf(1.0, 7))  # of one query of eight: its mean is its standard error
    assert (row.verdict, row.reason) == ("undecided", "more than 100 seeds; one against three: +12.50")
    row = outcome(plan_of({"pairs": [["one", "two"], ["two", "one"]]}), tmp_path).iloc[0]
    assert (row.verdict, row.reason) == ("contradicted", "two against one: -50.00")
    assert row.p_opposite == pytest.approx(2 * P, rel=1e-4)  # any of two pairs could have been the one


def test_near_is_an_equivalence_test(tmp_path: Path) -> None:
    steady(tmp_path, BETTER)
    se = 53.4522 / 8**0.5
    for margin, verdict in ((100.0, "supported"), (60.0, "undecided"), (1.0, "contradicted")):
        row = outcome(plan_of({"kind": "near", "margin": margin}), tmp_path).iloc[0]
        assert row.verdict == verdict
        assert row.p == pytest.approx(stats.t.sf((margin - 50) / se, 7), rel=1e-4)
    same = outcome(plan_of({"kind": "near", "margin": 0.1, "pairs": [["one", "one"]]}), tmp_path).iloc[0]
    assert (same.verdict, same.ours, same.p) == ("supported", 0.0, 0.0)


def test_a_trend_is_what_a_line_rises() -> None:
    """Of 0, 10, 40 and 50 least squares rise by 18 each step."""
    assert trend(4) @ np.array([0.0, 10.0, 40.0, 50.0]) == pytest.approx(3 * 18.0)
    assert trend(4) @ np.array([0.0, 10.0, 40.0, 50.0]) == pytest.approx(
        3 * np.polyfit(range(4), [0, 10, 40, 50], 1)[0]
    )
    assert trend(2).tolist() == [-1.0, 1.0]


LADDER = {"one": [1] * 7 + [0], "two": [1] * 4 + [0] * 4, "three": [0] * 8}
ALONG = {"kind": "grows", "pairs": [], "rows": ["three", "two", "one"]}


def test_grows_and_falls(tmp_path: Path) -> None:
    steady(tmp_path, LADDER)
    row = outcome(plan_of(ALONG), tmp_path).iloc[0]
    assert (row.verdict, row.ours, row.reason) == ("supported", pytest.approx(87.5), "")
    assert row.published == pytest.approx(61.5 - 59.9)
    falls = outcome(plan_of({**ALONG, "kind": "falls", "rows": ["one", "two", "three"]}), tmp_path).iloc[0]
    assert (falls.verdict, falls.ours) == ("supported", pytest.approx(-87.5))
    assert falls.p == pytest.approx(row.p)
    assert outcome(plan_of({**ALONG, "kind": "falls"}), tmp_path).iloc[0].verdict == "contradicted"


def test_what_falls_on_its_way_up_does_not_grow(tmp_path: Path) -> None:
    """From 0 up to 7 of 8 and down to 4: the line rises, the last step falls by 37.5, three queries of eight."""
    steady(tmp_path, {**LADDER, "few": [1] * 8})
    row = outcome(plan_of({**ALONG, "rows": ["three", "few", "two"]}), tmp_path).iloc[0]
    assert row.ours == pytest.approx(50.0)
    assert (row.verdict, row.reason) == ("contradicted", "two against few: -50.00")


def test_a_lead_shrinks(tmp_path: Path) -> None:
    """By 50 for the first pair, by 0 for the second."""
    steady(tmp_path, {**BETTER, "three": [1] * 4 + [0] * 4, "few": [1] * 4 + [0] * 4})
    stated = {"kind": "shrinks", "pairs": [["one", "two"], ["three", "few"]]}
    row = outcome(plan_of(stated), tmp_path).iloc[0]
    assert (row.verdict, row.ours) == ("supported", pytest.approx(-50.0))
    assert row.p == pytest.approx(P, rel=1e-4)
    grown = outcome(plan_of({**stated, "pairs": stated["pairs"][::-1]}), tmp_path).iloc[0]
    assert (grown.verdict, grown.ours) == ("contradicted", pytest.approx(50.0))
    ranks = outcome(plan_of({**stated, "metrics": ["mean_rank"]}), tmp_path).iloc[0]
    assert (ranks.verdict, ranks.ours) == ("supported", pytest.approx(0.5))  # a lead of half a rank


def test_above_chance(tmp_path: Path) -> None:
    """Five of forty captions are an image's: a random order has one of them first for an eighth of the images."""
    steady(tmp_path, {"one": [1] * 8, "two": [1] + [0] * 7})
    stated = {"kind": "above_chance", "pairs": [], "rows": ["one"], "published": {"flickr30k": 61.4}}
    row = outcome(plan_of(stated), tmp_path).iloc[0]
    assert (row.ours, row.verdict, row.published) == (pytest.approx(87.5), "supported", 61.4)
    row = outcome(plan_of({**stated, "rows": ["two"]}), tmp_path).iloc[0]
    assert (row.ours, row.verdict) == (pytest.approx(0.0), "undecided")
    row = outcome(plan_of({**stated, "metrics": ["mean_rank"]}), tmp_path).iloc[0]
    assert row.verdict == "not run"
    assert "no expected value of a random order for image-to-text mean_rank" in row.reason


def test_runs_that_begin_from_one_another_are_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that lie far apart, and a second run that is 12.5 better in each: found only where they are paired."""
    hits = [0, 3, 6]
    paper = json.loads(json.dumps(PAPER))
    paper["experiments"]["three"]["after"] = "one"
    for seed, n in enumerate(hits):
        make(tmp_path, "one", [1] * n + [0] * (N - n), seed)
        make(tmp_path, "three", [1] * (n + 2) + [0] * (N - n - 2), seed)
        make(tmp_path, "two", [1] * (n + 2) + [0] * (N - n - 2), seed)
    stated = [{**CLAIM, "id": name, "pairs": [[name, "one"]]} for name in ("three", "two")]
    plan = toy_plan()
    plan = Plan(
        plan.params, {"toy": experiments.validated(experiments.Paper, {**paper, "name": "toy", "claims": stated}, "t")}
    )
    rows = outcome(plan, tmp_path).set_index("claim")
    assert rows.ours.tolist() == pytest.approx([25.0, 25.0])
    assert rows.verdict.tolist() == ["supported", "undecided"]


def test_what_has_not_been_run_says_so(tmp_path: Path) -> None:
    plan = plan_of({}, {"id": "d", "pairs": [["one", "three"], ["two", "three"]]})
    steady(tmp_path, {"one": BETTER["one"]})
    rows = outcome(plan, tmp_path).set_index("claim")
    assert rows.verdict.tolist() == ["not run", "not run"]
    assert rows.reason["c"] == "two: not made yet"
    assert rows.reason["d"] == "three, two: not made yet"
    assert rows[["ours", "p", "p_holm"]].isna().all(axis=None)
    assert rows.published.notna().all()
    quick = {key: job for key, job in plan.jobs.items() if job.model != "vse0"}
    assert outcome(plan, tmp_path, quick).reason[0] == "two: not part of quick; run `snakemake all`"
    make(tmp_path, "two", BETTER["two"], ids=[f"other{i}" for i in range(N)])
    assert "runs that were tested on different queries (image-to-text)" in outcome(plan, tmp_path).reason[0]


def test_queries_in_another_order_are_the_same_queries(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make(tmp_path, "one", BETTER["one"], seed)
        make(tmp_path, "two", BETTER["two"][::-1], seed, ids=[f"img{i}" for i in range(N)][::-1])
    assert outcome(plan_of({}), tmp_path).iloc[0].p == pytest.approx(P, rel=1e-4)


def test_numbers_that_are_no_means_over_queries_are_tested_over_seeds(tmp_path: Path) -> None:
    values = {"one": [10.0, 11.0, 12.0], "two": [1.0, 2.0, 3.0]}
    by_seed(tmp_path, "median_rank", values)
    for name, numbers in values.items():
        for seed, value in enumerate(numbers):
            epochs = pd.DataFrame({"epoch": [1, 2], "seconds": [value, value], "steps": [10, 10]})
            epochs.to_parquet(tmp_path / "world" / RUNS[name] / f"seed{seed}" / "history.parquet")
    expected = stats.ttest_ind([10, 11, 12], [1, 2, 3], equal_var=False, alternative="greater").pvalue
    turned = {"pairs": [["two", "one"]]}
    row = outcome(plan_of({**turned, "metrics": ["median_rank"]}), tmp_path).iloc[0]
    assert (row.ours, row.p) == (pytest.approx(-9.0), pytest.approx(expected))
    row = outcome(plan_of({**turned, "metrics": ["milliseconds"], "aspects": []}), tmp_path).iloc[0]
    assert (row.ours, row.p, row.verdict) == (pytest.approx(-900.0), pytest.approx(expected), "supported")
    assert row.measure == "milliseconds per iteration"


def test_directions_are_averaged_as_metrics_are(tmp_path: Path) -> None:
    """Recall at 1 and mean ranks cannot be, recalls at 1 and at 2 can: all ranks are 1 or 2."""
    steady(tmp_path, BETTER)
    row = outcome(plan_of({"metrics": ["recall@1", "recall@2"]}), tmp_path).iloc[0]
    assert row.ours == pytest.approx((50.0 + 0.0) / 2)
    assert row.p == pytest.approx(P, rel=1e-4)
    assert row.measure == "mean of R@1, R@2; image-to-text"
    row = outcome(plan_of({"aspects": ["average"]}), tmp_path).iloc[0]
    assert (row.ours, row.measure) == (pytest.approx(50.0), "R@1; all directions")


def test_attention_blocks_are_counted_in_the_weights(tmp_path: Path) -> None:
    """The second run has the first one's block to the bit, and two of its own."""
    runs = {"two": "full/cvs.two", "three": "full/mcvs.three"}
    spaces = {
        "two": {"model": "cvs", "dataset": "xmedia", "variant": "two", "settings": {"modalities": ["image", "text"]}},
        "three": {
            "model": "mcvs", "dataset": "xmedia", "variant": "three", "after": "two",
            "settings": {"modalities": ["image", "text", "video"]},
        },
    }  # fmt: skip
    kept = np.arange(4.0, dtype=np.float32)
    for seed in (0, 1, 2):
        for name, blocks in {
            "two": {"image-text": kept},
            "three": {"image-text": kept, "image-video": kept, "text-video": kept},
        }.items():
            run = make(tmp_path, runs[name], [1] * 8, seed, dataset="media_world")
            save_file({f"blocks.{key}.i.weight": value for key, value in blocks.items()}, run / "model.safetensors")
    verdict = {}
    for right, counts in ((True, {"two": 1, "three": 2}), (False, {"two": 1, "three": 3})):
        stated = {
            **CLAIM,
            "kind": "counts",
            "metrics": ["attention_blocks"],
            "aspects": [],
            "pairs": [],
            "counts": counts,
        }
        paper = {**PAPER, "name": "toy", "experiments": spaces, "tables": [], "claims": [stated]}
        plan = Plan(toy_plan().params, {"toy": experiments.validated(experiments.Paper, paper, "t")})
        verdict[right] = outcome(plan, tmp_path).iloc[0]
    assert (verdict[True].verdict, verdict[True].reason) == ("supported", "two 1, three 2")
    assert (verdict[False].verdict, verdict[False].reason) == ("contradicted", "three has 2, not 3")
    assert pd.isna(verdict[False].p)


# -- how they are shown ---------------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Plan, pd.DataFrame]:
    steady(tmp_path / "runs", BETTER)
    plan = plan_of({"says": "A & B <b> | 5 %."}, {"id": "d", "pairs": [["one", "three"]]})
    return plan, outcome(plan, tmp_path / "runs")


def test_claims_in_every_format(shown: tuple[Plan, pd.DataFrame], tmp_path: Path) -> None:
    plan, frame = shown
    verdicts.write(plan, frame, tmp_path / "tables")
    texts = {kind: (tmp_path / f"tables/claims.{kind}").read_text() for kind in ("csv", "md", "tex", "html")}
    back = pd.read_csv(io.StringIO(texts["csv"]), keep_default_na=False, na_values=[""]).astype(claims.TYPES)
    assert back.p_holm.tolist()[:1] == pytest.approx(frame.p_holm.tolist()[:1])
    assert "A & B &lt;b> \\| 5 %. (table 1)" in texts["md"]
    assert r"A \& B \textless{}b\textgreater{} \textbar{} 5 \%." in texts["tex"]
    assert "A &amp; B &lt;b&gt; | 5 %." in texts["html"]
    for text in (texts["md"], texts["html"]):
        assert "embedded world for Flickr30K" in text
        assert "1 supported, 1 not run" in text
        assert "three: not made yet" in text
    assert "+50.0" in texts["md"]


def test_claims_in_the_terminal(shown: tuple[Plan, pd.DataFrame]) -> None:
    stream = io.StringIO()
    verdicts.show(*shown, console=Console(file=stream, width=160))
    text = stream.getvalue()
    assert "supported" in text
    assert "0.017" in text
    assert text.rstrip().endswith("Left out: 1 claim that no run tests (--all).\n1 supported, 1 not run")
    assert "three: not made yet" not in text
    narrow, every = io.StringIO(), io.StringIO()
    verdicts.show(*shown, console=Console(file=narrow, width=80))
    assert max(map(len, narrow.getvalue().splitlines())) <= 80
    verdicts.show(*shown, console=Console(file=every, width=300), every=True)
    assert "three: not made yet" in every.getvalue()
    assert "Left out" not in every.getvalue()


def test_signed_numbers() -> None:
    assert [verdicts.signed(x) for x in (2.5, -0.07, 0.0, -29.96, float("nan"))] == [
        "+2.5",
        "−0.07",
        "+0.0",
        "−30.0",
        "–",
    ]


def test_the_command(shown: tuple[Plan, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = shown[0]
    paths = plan.params.paths.model_copy(update={"results": str(tmp_path)})
    plan = Plan(plan.params.model_copy(update={"paths": paths}), plan.papers)
    collect(plan, tmp_path / "runs").to_parquet(tmp_path / "metrics.parquet")
    monkeypatch.setattr(cli.results, "read_plan", lambda: plan)
    done = CliRunner().invoke(cli.app, ["claims", "--paper", "toy"])
    assert done.exit_code == 0, done.output
    assert "1 supported, 1 not run" in done.output
    assert pd.read_parquet(tmp_path / "claims.parquet").verdict.tolist() == ["supported", "not run"]
    wrong = CliRunner().invoke(cli.app, ["claims", "--paper", "tyo"])
    assert "no paper 'tyo' is chosen; did you mean 'toy'?" in str(wrong.exception)
    assert report._claims(plan, tmp_path / "claims.parquet") is not None
    assert report._claims(plan, tmp_path / "no.parquet") is None


def test_claims_of_ones_own_have_no_column_of_published_numbers(shown: tuple[Plan, pd.DataFrame]) -> None:
    lines = verdicts.lines(*shown)
    assert [verdicts.HEADS[place] for place in verdicts.columns_of(lines)] == [*verdicts.HEADS]
    own = [replace(line, published="–") for line in lines]
    for write in (verdicts.to_md, verdicts.to_tex, verdicts.to_html):
        assert ">Published<" in write(lines) or " Published " in write(lines)
        assert ">Published<" not in write(own)
        assert " Published " not in write(own)
    rows = [line for line in verdicts.to_md(own).splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert str(verdicts.to_html(own)).count('colspan="5"') == 1

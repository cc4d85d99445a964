"""The transcribed tables: numbers spot-checked by hand, and the runs that the papers ask for at either scale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.corpus.splits import parse, stage

ROOT = Path(__file__).parents[1]
SEEDS = {"mfsr": "001*.txt", "a3vse": "002*.txt"}
ROWS = {
    ("mfsr", "table1"): 27,
    ("mfsr", "table2"): 25,
    ("mfsr", "table3"): 8,
    ("a3vse", "table1"): 9,
    ("a3vse", "table2"): 22,
    ("a3vse", "table3"): 9,
    ("a3vse", "table4"): 22,
    ("a3vse", "table5"): 8,
}
ABLATIONS = ("no-s", "global-s", "no-attention", "no-adversary", "no-intra", "no-cross", "no-trans")
# (paper, table, group or split, row, system, direction, metric): as printed.
PRINTED = {
    ("mfsr", "table1", "VGG", "DVSA [29]", None, "image-to-text", "recall@1"): 38.4,
    ("mfsr", "table1", "VGG", "VSE++ [3]", None, "text-to-image", "recall@10"): 92.0,
    ("mfsr", "table1", "VGG", "GXN [6]", None, "image-to-text", "recall@5"): None,
    ("mfsr", "table1", "Faster", "GSMN [36]", None, "text-to-image", "recall@1"): 63.3,
    ("mfsr", "table1", "24", "mFSR", None, "text-to-image", "recall@5"): 77.8,
    ("mfsr", "table2", "24", "VSE++", None, "image-to-text", "recall@1"): 40.1,
    ("mfsr", "table2", "Faster", "SGM [35]", None, "image-to-text", "recall@1"): 71.8,
    ("mfsr", "table3", "", "VSE++ & mo & sp & cap-re", None, "image-to-text", "recall@1"): 55.2,
    ("mfsr", "table3", "", "VSE++ & sp", None, "text-to-image", "recall@5"): 76.2,
    ("a3vse", "table1", "10pct-1cap", "", "SCAN", "text-to-image", "recall@1"): 2.0,
    ("a3vse", "table1", "50pct-5cap", "", "A3VSE", "image-to-text", "recall@10"): 91.6,
    ("a3vse", "table1", "20pct-2cap", "", "A3VSE", "text-to-image", "recall@5"): 61.6,
    ("a3vse", "table2", "14,500", "VSE++ [6]", None, "text-to-image", "recall@1"): 7.2,
    ("a3vse", "table2", "145,000", "A3VSE", None, "image-to-text", "recall@10"): 94.5,
    ("a3vse", "table3", "5pct-2cap", "", "SCAN", "image-to-text", "recall@5"): 33.1,
    ("a3vse", "table4", "0 pairs", "s_g baseline", None, "image-to-text", "recall@10"): 22.8,
    ("a3vse", "table4", "566,435", "VSE++ [6]", None, "text-to-image", "recall@5"): 56.0,
    ("a3vse", "table5", "", "s, without attention", None, "text-to-image", "recall@10"): 62.7,
}


ABLATION = ("", "mo", "sp", "mo+sp", "mo+sp+img-re", "mo+sp+cap-re", "orthogonal", "finetuned")
"""Variants of mFSR."""
QUOTED = ("cmpm", "cmpm.finetuned", "cmpm.cmpc", "dspe", "rrfnet", "cmrsc", "order_embeddings", "dvsa", "sgm",
          "gsmn.ensemble", "gsmn.neighbours", "mcnn", "sco", "gxn")  # fmt: skip
"""Systems of rows that mFSR quotes from other papers, trained on all pairs of both data sets."""
ON_COCO = ("pvse", "dsve")
"""Those of which it quotes a row for MS-COCO alone."""
SYSTEMS = ("vsepp", "dan", "dpc", "scan", "a3vse")
OURS = ("contrastive", "contrastive.sigmoid")  # of no paper: in the tables beside VSE++, wherever it stands


def plan_of(scale: str) -> experiments.Plan:
    value = experiments.read_yaml(ROOT / "params.yaml") | {"scale": scale, "papers": list(SEEDS)}
    return experiments.plan(experiments.from_config(value), ROOT / "papers")


@pytest.fixture(scope="module")
def papers() -> dict[str, experiments.Paper]:
    return experiments.read_papers(SEEDS, ROOT / "papers")


def tables(papers: dict[str, experiments.Paper]) -> dict[tuple[str, str], experiments.Table]:
    return {(name, table.id): table for name, paper in papers.items() for table in paper.tables}


def test_every_table_has_all_its_rows(papers: dict[str, experiments.Paper]) -> None:
    assert {key: len(table.rows) for key, table in tables(papers).items()} == ROWS


@pytest.mark.parametrize("place", PRINTED, ids=lambda place: " ".join(filter(None, place)))
def test_numbers_are_as_printed(papers: dict[str, experiments.Paper], place: tuple) -> None:
    paper, table_id, where, label, system, aspect, metric = place
    table = tables(papers)[paper, table_id]
    columns = [(c.system, c.aspect, c.metric) for c in table.columns]
    rows = [
        row
        for row in table.rows
        if label in ("", row.label) and (where in (row.group or "").replace("[24]", "") or where in (row.split, ""))
    ]
    assert len(rows) == 1
    assert rows[0].published[columns.index((system, aspect, metric))] == PRINTED[place]


def test_extras_and_protocols(papers: dict[str, experiments.Paper]) -> None:
    found = tables(papers)
    batch = {row.label: row.extra.get("batch_size") for row in found["mfsr", "table1"].rows}
    assert (batch["DSPE [8]"], batch["GSMN [36]"], batch["mFSR"], batch["chance"]) == (1500, 64, 24, None)
    assert [found["mfsr", t].folds for t in ("table1", "table2", "table3")] == [5, 1, 5]
    pairs = {row.split: row.extra["pairs"] for row in found["a3vse", "table1"].rows}
    assert pairs["10pct-5cap"] == 14_500
    assert pairs["50pct-2cap"] == 23_200  # as printed, though 29,000 follow from the percentages


def test_rows_with_an_experiment_train_on_the_split_of_the_row(papers: dict[str, experiments.Paper]) -> None:
    for paper in papers.values():
        for table in paper.tables:
            for row in table.rows:
                for name in experiments.named_experiments(row):
                    experiment = paper.experiments[name]
                    assert experiment.split == (row.split or table.split)
                    assert experiment.dataset == (row.dataset or table.dataset)


def test_subsets_are_of_the_kind_that_the_relevance_of_their_data_set_has() -> None:
    """By classes where items are relevant by class, which have no pairs; by pairs elsewhere."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    by_class = {name for name, block in params["datasets"].items() if block.get("relevance") == "label"}
    names = [path.stem for path in (ROOT / "papers").glob("*.yaml")]
    asked = [
        e for paper in experiments.read_papers(names, ROOT / "papers").values() for e in paper.experiments.values()
    ]
    assert {e.dataset for e in asked} & by_class
    for one in asked:
        (stage if one.dataset in by_class else parse)(one.split)


def test_what_is_not_as_published_is_said_at_its_row(papers: dict[str, experiments.Paper]) -> None:
    found = tables(papers)
    for name in ("table2", "table4"):
        said = {}
        for row in found["a3vse", name].rows:
            said.setdefault(row.label.split(" ")[0], []).append(row.differs)
        assert all("fine-tuned" in text for system in ("DPC", "VSE++") for text in said[system])
        assert len(said["DPC"]) == len(said["VSE++"]) == 3
        assert "image classifiers" in said["s_g"][0]
        assert said["A3VSE"][:2] == [None, None]
        assert "every image is annotated" in said["A3VSE"][2]
    ablation = {row.label: row.differs for row in found["a3vse", "table5"].rows}
    assert [label for label, text in ablation.items() if text] == ["Swap s with s_g"]
    # VSE++ with its network fine-tuned, as mFSR quotes it, is what A3VSE's table gives of VSE++ with all pairs.
    (quoted,) = [row.published for row in found["mfsr", "table2"].rows if row.label == "VSE++ [3]"]
    whole = [row.published for row in found["a3vse", "table2"].rows if row.label == "VSE++ [6]"][2]
    assert [whole[i] for i in (3, 4, 5, 0, 1, 2)] == pytest.approx(quoted, abs=1.7)
    for name in ("table1", "table2", "table3"):
        small = [row for row in found["mfsr", name].rows if row.extra.get("batch_size") == 24]
        assert all("image network" in row.differs for row in small)
    assert "gain" in found["mfsr", "table3"].rows[0].differs


def test_what_is_ours_stands_beside_vsepp_at_every_degree_of_annotation(papers: dict[str, experiments.Paper]) -> None:
    for (paper, _), table in tables(papers).items():
        trained = [
            (row, papers[paper].experiments[name]) for row in table.rows for name in experiments.named_experiments(row)
        ]
        of = {model: {(e.dataset, e.split) for _, e in trained if (e.model, e.variant) == model}
              for model in (("vsepp", ""), ("contrastive", ""), ("contrastive", "sigmoid"))}  # fmt: skip
        assert of["contrastive", ""] == of["contrastive", "sigmoid"] == of["vsepp", ""]
        for row, experiment in trained:
            if experiment.model == "contrastive":
                assert set(row.published) == {None}
                assert "not published; ours" in row.note
                (beside,) = {
                    str(e.published)
                    for _, e in trained
                    if e.model == "vsepp" and e.split == experiment.split and not e.variant
                }
                assert str(experiment.published) == beside


def test_a_row_that_is_not_trained_cannot_differ() -> None:
    row = {"label": "x", "published": [1.0], "differs": "otherwise"}
    about = {"id": "t", "title": "T", "source": "s", "dataset": "coco", "protocol": "p"}
    table = {**about, "columns": [{"aspect": "image-to-text", "metric": "recall@1"}], "rows": [row]}
    with pytest.raises(UserError, match=r"table t, row 'x': differs: no `experiment` is named"):
        experiments.validated(experiments.Table, table, "papers/x.yaml")


def test_jobs_at_scale_embedded() -> None:
    plan = plan_of("embedded")
    runs = [
        "full/vsepp",
        "full/vsepp.finetuned",
        "full/vse0",
        "full/vsepp.batch24",
        "full/scan.ensemble",
        "full/chance",
        "full/oracle",
        "none/sg",
    ]
    runs += [f"full/mfsr{'.' * bool(variant)}{variant}" for variant in ABLATION]
    runs += [f"full/{model}" for model in (*QUOTED, *ON_COCO)]
    compared = ("10pct-5cap", "50pct-2cap", "10pct-1cap", "full")
    runs += [f"{split}/{model}" for split in compared for model in (*SYSTEMS, *OURS)]
    grid = [f"{share}pct-{n}cap" for share in (5, 10, 20, 50) for n in (1, 2, 5)]
    runs += [f"{split}/{model}" for split in grid for model in ("scan", "a3vse")]
    runs += [f"10pct-5cap/a3vse.{name}" for name in ABLATIONS]
    assert set(plan.jobs) == {f"scenes/{run}/seed{seed}" for run in runs for seed in (0, 1, 2)}
    quick = {key for key, job in plan.jobs.items() if job.quick}
    names = ["full/vsepp", "full/vse0", "full/chance", "full/oracle", "10pct-5cap/vsepp", "none/sg"]
    names += ["10pct-1cap/scan", "10pct-1cap/a3vse"]
    assert quick == {f"scenes/{name}/seed0" for name in names}
    assert set(plan.jobs["scenes/full/vsepp/seed0"].papers) == {"mfsr", "a3vse"}
    batch24 = plan.jobs["scenes/full/vsepp.batch24/seed0"].settings
    assert batch24["batch_size"] == 24


def test_jobs_at_scale_full() -> None:
    plan = plan_of("full")
    systems = ("vsepp", "vsepp.finetuned", "vse0", "vsepp.batch24", "scan.ensemble", "chance", "oracle")
    runs = [f"{d}/full/{m}" for d in ("coco", "flickr30k") for m in (*systems, *QUOTED)]
    runs += [f"coco/full/mfsr{'.' * bool(variant)}{variant}" for variant in ABLATION]
    runs += ["flickr30k/full/mfsr", "flickr30k/full/mfsr.finetuned", *(f"coco/full/{model}" for model in ON_COCO)]
    compared = {"flickr30k": ("10pct-5cap", "50pct-2cap", "full"), "coco": ("10pct-1cap", "50pct-2cap", "full")}
    shares = {"flickr30k": (10, 20, 50), "coco": (5, 10, 20)}
    for dataset, splits in compared.items():
        runs += [f"{dataset}/none/sg"]
        runs += [f"{dataset}/{split}/{model}" for split in splits for model in (*SYSTEMS, *OURS)]
        grid = [f"{share}pct-{n}cap" for share in shares[dataset] for n in (1, 2, 5)]
        runs += [f"{dataset}/{split}/{model}" for split in grid for model in ("scan", "a3vse")]
    runs += [f"flickr30k/10pct-5cap/a3vse.{name}" for name in ABLATIONS]
    assert set(plan.jobs) == {f"{run}/seed{seed}" for run in runs for seed in (0, 1, 2)}
    assert plan.jobs["flickr30k/10pct-5cap/scan/seed0"].settings["epoch_steps"] == 566
    on_coco = [job.settings for key, job in plan.jobs.items() if key.startswith("coco/") and job.name == "scan"]
    assert len(on_coco) == 3 * 11
    for chosen in on_coco:  # as SCAN's README has them for MS-COCO: λ2 is 20, where it is 5 on Flickr30K
        assert (chosen["attention"], chosen["smooth"], chosen["sharpness"]) == ("image-to-text", 4, 20)
        assert (chosen["lr"], chosen["epochs"], chosen["lr_drop"]) == (0.0005, 20, 10)
    assert "epoch_steps" not in plan.jobs["flickr30k/full/scan/seed0"].settings
    settings = plan.jobs["coco/full/vsepp.batch24/seed0"].settings
    assert settings == {"batch_size": 24}  # the rest is as VSE++'s program has it: one layer of 1024
    assert plan.jobs["coco/full/vsepp/seed0"].folds == [1, 5]
    mfsr = plan.jobs["coco/full/mfsr/seed0"]
    assert set(mfsr.settings) == {"word_embedding"}  # the paper's own are the model's defaults
    assert mfsr.extractors == [("image", "resnet152"), ("image", "pixels")]
    tuned = plan.jobs["coco/full/mfsr.finetuned/seed0"]
    assert tuned.extractors == [("image", "pixels256"), ("image", "pixels")]
    assert (tuned.settings["epochs"], tuned.settings["lr"], tuned.after) == (15, 2e-5, "coco/full/mfsr")  # mFSR, 3.5


def seed_text(paper: str) -> str | None:
    found = sorted((ROOT.parent / "shared" / "seeds").glob(SEEDS[paper]))
    return found[0].read_text(encoding="utf-8") if found else None


def first_name(label: str) -> str:
    """What a row's line in the scan holds: it prints VSE++ as VSE+ here and there, and dresses its variables."""
    return re.sub(r"\W+", "", label.split("[")[0].replace("VSE++", "VSE+"))


@pytest.mark.parametrize("paper", SEEDS)
def test_every_published_row_stands_in_the_scan(papers: dict[str, experiments.Paper], paper: str) -> None:
    text = seed_text(paper)
    if text is None:
        pytest.skip("the scanned papers are not beside this checkout")
    lines = [re.sub(r"</?\w+>", "", line) for line in text.splitlines() if "\t" in line]
    lines += [line for line in re.sub(r"</?\w+>", "", text).splitlines() if "\t" not in line]
    for table in papers[paper].tables:
        for row in table.rows:
            numbers = ["-" if number is None else f"{number:.1f}" for number in row.published]
            if set(numbers) == {"-"}:
                continue
            wanted = re.compile(r"(?<![\d.])" + r"\s+".join(map(re.escape, numbers)) + r"(?![\d.])")
            matching = [line for line in lines if wanted.search(line)]
            assert matching, f"{table.id}, {row.label}: {numbers}"
            if "captions" not in row.label and not row.label.startswith(("s", "Swap", "Without", "No", "A3VSE")):
                names = [re.sub(r"\W+", "", re.sub(r"VSE\++", "VSE+", line.split("[")[0])) for line in matching]
                assert any(name.startswith(first_name(row.label)) for name in names), row.label


def test_a_second_form_that_is_not_named_leaves_its_runs_out() -> None:
    """mFSR reads pixels beside vectors; where no extractor of them is named, the others run and the error says what."""
    value = experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["mfsr"]}
    value["datasets"]["scenes"]["inputs"] = value["inputs"] = {"image": "world"}
    plan = experiments.plan(experiments.from_config(value), ROOT / "papers")
    models = {job.model for job in plan.jobs.values()}
    assert models >= {"vsepp", "vse0", "contrastive", "scan", "chance", "oracle"}
    assert models.isdisjoint({"mfsr", "dspe", "rrfnet"})  # nor are there vectors of texts
    with pytest.raises(experiments.UnreadableError, match="'mfsr' reads image in the form 'pixels' besides"):
        plan.job(plan.papers["mfsr"].experiments["mfsr-coco"], 0)

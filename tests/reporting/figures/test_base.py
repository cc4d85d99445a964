"""What a figure declares: found by its file, in this package or another; asked of the plan; hashed by its source."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossmodal import dag, experiments
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.page import sections
from tests.on_world import on_world
from tests.reporting.drawn import ROOT

OUTSIDE = '''"""How many runs of each system there are."""
from collections import Counter
from crossmodal.experiments import Strict
from crossmodal.reporting.figures import base, canvas

class Options(Strict):
    most: int

class Figure(base.Figure):
    section = base.Section("counts", "Counts", "Runs of each system", place=15)
    caption = "Runs that are planned, for each system."
    has_numbers = True
    Options = Options

    def wanted(self):
        return any(job.model == "vse0" for job in self.scope.jobs.values())

    def reads(self):
        return self.scope.evaluated("metrics.json", self.scope.jobs.values())

    def numbers(self):
        return "".join(f"{name},{count}\\n" for name, count in sorted(self.counts().items()))

    def counts(self):
        return Counter(job.name for job in self.scope.jobs.values())

    def draw(self):
        with canvas.style():
            figure = canvas.figure(4, 2)
            figure.subplots().bar(*zip(*sorted(self.counts().items())))
            return canvas.svg(figure)
'''


@pytest.fixture
def written(outside):
    """A function that writes a module `counts` of another package, whose entry point is the figure `counts`."""
    return lambda text: outside("outside_figures", {"counts": text}, {"figures": {"counts": "counts"}})


def test_a_figure_of_another_package_stands_on_the_page(written, plan: Plan, tmp_path: Path) -> None:
    written(OUTSIDE)
    scope = base.Scope(plan, plan.jobs, str(tmp_path))
    assert "counts" in [figure.name for figure in base.wanted(scope)]
    base.write("counts", scope)
    numbers = (tmp_path / "figures" / "counts.csv").read_text().splitlines()
    assert f"vse0,{sum(job.name == 'vse0' for job in plan.jobs.values())}" in numbers
    (section,) = sections.drawn(scope)
    assert (section["id"], section["short"], section["title"]) == ("counts", "Counts", "Runs of each system")
    assert section["parts"][0]["caption"] == "Runs that are planned, for each system."
    others = {key: job for key, job in plan.jobs.items() if job.model != "vse0"}
    without = base.Scope(plan, others, str(tmp_path))
    assert "counts" not in [figure.name for figure in base.wanted(without)]
    assert sections.drawn(without) == []
    with pytest.raises(UserError, match="figure 'counts': none of its runs is part of"):
        base.write("counts", without)


def test_all_figures_whose_files_are_there_are_drawn(written, plan: Plan, tmp_path: Path, caplog, monkeypatch) -> None:
    """Nothing is collected in the folder: figures of no collected file are drawn, and the others are named."""
    written(OUTSIDE)
    scope = base.Scope(plan, plan.jobs, str(tmp_path / "results"))
    base.write_all(scope)
    drawn = {path.name for path in (tmp_path / "results" / "figures").glob("*.svg")}
    assert drawn == {"counts.svg", "learning_curves.svg"}
    assert "figure efficiency: left out: " in caplog.text
    monkeypatch.setattr(base, "wanted", lambda scope: [base.figure("efficiency", scope)])
    with pytest.raises(UserError, match=r"annotation_efficiency\.csv: not found"):
        base.write_all(scope)


def test_a_figure_of_another_package_is_a_step_of_the_dag(written, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    config = on_world(papers=["mfsr"], seeds=[0])
    written(OUTSIDE)
    made = dag.Dag(config)
    asked = SimpleNamespace(scope="quick/", figure="counts")
    assert "results/quick/figures/counts.svg" in made.figure_files("quick/")
    assert "results/runs/world/full/vse0/seed0/instance_retrieval/metrics.json" in made.figure(asked)["reads"]
    assert made.figure(asked)["caption"] == "Runs that are planned, for each system."
    assert "counts" in made.figure_pattern(has_numbers=True).split("|")
    assert "counts" not in made.figure_pattern(has_numbers=False).split("|")
    # Its code changes its own identity and that of the page, and no other's; a comment changes none.
    written(f"# A comment.\n{OUTSIDE}")
    again = dag.Dag(config)
    assert again.figures == made.figures
    written(OUTSIDE.replace("figure(4, 2)", "figure(5, 2)"))
    changed = dag.Dag(config)
    different = [n for n, one in changed.figures[""].items() if one["identity"] != made.figures[""][n]["identity"]]
    assert different == ["counts"]
    assert changed.figures_identity("") != made.figures_identity("")
    assert changed.reporting_identity("tables.writers") == made.reporting_identity("tables.writers")
    written(OUTSIDE.replace("Runs that are planned", "Runs that were planned"))
    assert dag.Dag(config).figures_identity("quick/") != made.figures_identity("quick/")


def test_a_changed_title_redraws_what_shows_titles(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    config = on_world(papers=["mfsr"], seeds=[0])
    before = dag.Dag(config)
    wildcards = SimpleNamespace(dataset="world", split="full", name="vsepp", seed="0", scope="", figure="annotation")
    titled = experiments.merge(config, {"datasets": {"world": {"title": "another title"}}})
    after = dag.Dag(titled)
    assert after.figure(wildcards)["identity"] != before.figure(wildcards)["identity"]
    assert after.train_identity(wildcards) == before.train_identity(wildcards)
    with pytest.raises(UserError, match=r"figure 'anotation': this plan has no data for it; did you mean 'anno"):
        before.figure(SimpleNamespace(scope="", figure="anotation"))
    with pytest.raises(UserError, match="figure 'losses_by_stage': this plan has no data for it"):  # of another paper
        before.figure(SimpleNamespace(scope="", figure="losses_by_stage"))


@pytest.mark.parametrize(
    "text", ["", "Figure = 3\n", "from crossmodal.reporting.figures.base import Figure\n", "class Figure:\n    pass\n"]
)
def test_a_module_that_is_no_figure_is_named(written, plan: Plan, text: str) -> None:
    written(text)
    with pytest.raises(UserError, match=r"figure 'counts' \(outside_figures\.counts\): expected a class `Figure`"):
        base.wanted(base.Scope.of(plan))


def with_figures(plan: Plan, **blocks: dict) -> base.Scope:
    paper = plan.papers["mfsr"].model_copy(update={"figures": blocks})
    return base.Scope.of(Plan(plan.params, {**plan.papers, "mfsr": paper}))


def test_options_of_a_figure_stand_in_the_papers_file(written, plan: Plan) -> None:
    written(OUTSIDE)
    assert base.figure("counts", with_figures(plan, counts={"most": 3})).options["mfsr"].most == 3
    assert base.figure("counts", with_figures(plan)).options == {}
    for name, block, words in (
        ("counts", {"msot": 3}, r"papers/mfsr\.yaml: figures\.counts.*most"),
        ("annotation", {"most": 3}, r"papers/mfsr\.yaml: figures\.annotation.*most: unknown key"),
    ):
        with pytest.raises(UserError, match=words):
            base.wanted(with_figures(plan, **{name: block}))


def test_a_figure_that_no_file_is_of_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        "{title: t, authors: a, venue: v, year: 2000, tables: [], figures: {anotation: {}}}"
    )
    with pytest.raises(UserError, match=r"toy\.yaml: figures\.anotation: figure 'anotation' is unknown; did you mean"):
        experiments.read_papers(["toy"], tmp_path)


def covered(name: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that a figure's hash covers."""
    seen = set()
    source = registry._source
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_source", lambda path: (seen.add(path), source(path))[1])
        registry.source_hash.__wrapped__("figures", name)
    return {path.removeprefix("crossmodal.") for path in seen}


def test_what_a_figures_hash_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    annotation = covered("annotation", monkeypatch)
    assert {"reporting.figures.annotation", "reporting.figures.canvas", "reporting.results.shares"} <= annotation
    for name in registry.names("figures"):
        modules = covered(name, monkeypatch)
        others = {f"reporting.figures.{other}" for other in registry.names("figures")} - {f"reporting.figures.{name}"}
        shared = {"crossovers": {"annotation"}, "reconstructions": {"parts"}, "transformation": {"embeddings"}}
        shared |= {"adversarial_reconstruction": {"learning_curves"}, "caption_annotation": {"annotation"}}
        assert modules & others == {f"reporting.figures.{other}" for other in shared.get(name, ())}
        far = ("training", "reporting.page", "reporting.tables", "reporting.tracking")
        if name != "transformation":  # which encodes items by a trained model
            assert not [one for one in modules if one.startswith(far)], name
    for name in ("blocks_trained", "parts", "vocabulary"):  # which read no run's rankings
        assert not [
            one for one in covered(name, monkeypatch) if one.startswith(("evaluation", "models", "tasks.ranked"))
        ]


def test_neither_the_workflow_nor_the_reporting_names_a_model() -> None:
    models = set(registry.names("models")) - set(experiments.CONTROLS)
    reporting = Path(base.__file__).parents[1]
    files = [path for folder in (ROOT / "workflow", reporting) for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix != ".pyc"] + [ROOT / "Snakefile"]
    assert len(files) > 60
    for path in files:
        assert not models & set(re.findall(r"[a-z0-9_]+", path.read_text())), path

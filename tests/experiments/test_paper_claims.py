"""`claims:` of papers/*.yaml: what a claim must be, each mistake's message, and where its published numbers stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.experiments import Claim, Paper, load, read_papers, validated
from crossmodal.experiments.claims import places

ROOT = Path(__file__).parents[2]
RECALL, RANK = (
    {"aspect": "image-to-text", "metric": "recall@1"},
    {"aspect": "text-to-image", "metric": "mean_rank"},
)
CLAIM = {
    "id": "c",
    "says": "A is above B.",
    "source": "table 1",
    "kind": "above",
    "metrics": ["recall@1"],
    "aspects": ["image-to-text"],
    "pairs": [["a", "b"]],
}


def paper(*claims: dict) -> dict:
    about = {"title": "t", "authors": "a", "venue": "v", "year": 2000}
    experiments = {name: {"model": "scan", "dataset": "coco", "variant": name} for name in ("a", "b", "third")}
    experiments["far"] = {"model": "scan", "dataset": "flickr30k"}
    columns = [RECALL, RANK, {**RECALL, "protocol": "first"}]
    table = {"title": "T", "source": "s", "dataset": "coco", "protocol": "p", "columns": columns}
    first = [
        {"label": "A", "published": [50.0, 3.0, 80.0], "experiment": "a"},
        {"label": "B", "published": [40.0, None, 70.0], "experiment": "b"},
    ]
    second = [{"label": "A", "published": [51.0, 4.0, 81.0], "experiment": "a", "protocol": "unseen"}]
    tables = [{**table, "id": "t1", "rows": first, "folds": 5}, {**table, "id": "t2", "rows": second}]
    return {**about, "experiments": experiments, "tables": tables, "claims": list(claims)}


def made(**over: object) -> Paper:
    return validated(Paper, paper({**CLAIM, **over}), "papers/x.yaml")


def fault(**over: object) -> str:
    with pytest.raises(UserError) as caught:
        made(**over)
    assert "\n" not in str(caught.value)  # one error
    assert str(caught.value).startswith("papers/x.yaml: claims.")
    return str(caught.value)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"pairs": [["a", "thrid"]]}, "claims.c.pairs: no experiment 'thrid'; did you mean 'third'? (known: a, b"),
        ({"pairs": [["a", {"experiment": "bb"}]]}, "claims.c.pairs: no experiment 'bb'; did you mean 'b'?"),
        ({"metrics": ["recal@1"]}, "claims.c.metrics: no metric 'recal@1'; did you mean 'recall@1'?"),
        ({"aspects": ["image-to-txt"]}, "claims.c.aspects: no aspect 'image-to-txt'; did you mean 'image-to-"),
        ({"protocol": "frist"}, "claims.c.protocol: no protocol 'frist'; did you mean 'first'?"),
        ({"tables": ["t3"]}, "claims.c.tables: no table 't3'; did you mean 't"),
        ({"tables": ["t2"]}, "claims.c.tables: no cell of t2 is image-to-text recall@1 of the experiment 'b'"),
        ({"kind": "abov"}, "claims.0.kind: Input should be 'above'"),
        ({"marign": 2}, "claims.0.marign: unknown key; did you mean 'margin'?"),
        ({"rows": ["a"]}, "a claim of kind 'above': `rows` is not read; it compares `pairs`"),
        ({"kind": "grows", "pairs": []}, "a claim of kind 'grows': expected `rows`"),
        ({"kind": "near"}, "c.margin: a claim of kind 'near' has one, and no other"),
        ({"margin": 1.0}, "c.margin: a claim of kind 'near' has one, and no other"),
        ({"kind": "grows", "pairs": [], "rows": ["a"]}, "c.rows: a claim of kind 'grows' takes at least 2"),
        ({"kind": "shrinks"}, "c.pairs: a claim of kind 'shrinks' takes at least 2 of a data set, found 1 of coco"),
        ({"pairs": [["a", "far"]]}, "'a' is of coco and 'far' of flickr30k; runs are compared on one data set"),
        ({"metrics": ["recall@1", "mean_rank"]}, "claims.c.metrics: of some of recall@1, mean_rank more is better"),
        ({"metrics": ["milliseconds"]}, "claims.c.aspects: a ranking's metrics have aspects"),
        ({"aspects": []}, "claims.c.aspects: a ranking's metrics have aspects"),
        ({"published": {"cco": 2.0}}, "claims.c.published: no data set 'cco'; did you mean 'coco'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_error_that_names_file_and_key(over: dict, said: str) -> None:
    assert said in fault(**over)


def test_two_claims_have_two_names() -> None:
    with pytest.raises(UserError, match=r"papers/x.yaml: claims.c: occurs twice"):
        validated(Paper, paper(CLAIM, CLAIM), "papers/x.yaml")


def found(published: Paper, experiment: str) -> list[tuple]:
    claim = published.claims[0]
    side = next(side for side in claim.sides if side.experiment == experiment)
    return [(place.protocol, place.table, place.published) for place in places(published.tables, claim, side)]


def test_published_numbers_are_of_the_tables_that_are_named_and_else_of_the_first() -> None:
    assert found(made(), "a") == [(None, "t1", 50.0)]
    alone = {"kind": "above_chance", "pairs": [], "rows": ["a"]}
    assert found(made(**alone, tables=["t2"]), "a") == [("unseen", "t2", 51.0)]  # as the table's row has it
    assert found(made(**alone, protocol="unseen"), "a") == [("unseen", "t2", 51.0)]
    assert found(made(protocol="first"), "b") == [("first", "t1", 70.0)]
    assert found(made(**alone, metrics=["recall@1", "recall@7"]), "a") == [(None, "t1", 50.0), (None, None, None)]


def test_a_side_may_be_measured_otherwise() -> None:
    other = {"experiment": "a", "metrics": ["recall@5"], "aspects": ["text-to-image"], "protocol": "seen"}
    published = made(pairs=[["a", other]])
    claim = published.claims[0]
    (place,) = places(published.tables, claim, claim.pairs[0][1])
    assert (place.aspect, place.metric, place.protocol) == ("text-to-image", "recall@5", "seen")


def test_lower_is_better_of_ranks_and_times() -> None:
    for metric, lower in (("recall@1", False), ("map@50", False), ("mean_rank", True), ("milliseconds", True)):
        assert validated(Claim, CLAIM | {"metrics": [metric]}, "x").lower_is_better is lower


def test_every_paper_of_the_project_claims_something() -> None:
    papers = read_papers(load(ROOT / "params.yaml").papers, ROOT / "papers")
    assert {name for name, one in papers.items() if one.claims} == {"mfsr", "a3vse", "cvs", "chapter9"}
    for one in papers.values():
        for claim in one.claims:
            assert claim.says.endswith(".")
            assert claim.source.startswith(("section", "table", "figure"))

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.corpus import splits

ROOT = Path(__file__).parents[2]


@pytest.fixture
def items():
    rows = []
    for i in range(60):
        part = "train" if i < 40 else "val" if i < 50 else "test"
        rows.append((f"i{i}", "image", f"i{i}", part))
        rows += [(f"i{i}#{k}", "text", f"i{i}", part) for k in range(5)]
    return pd.DataFrame(rows, columns=["item_id", "modality", "group_id", "partition"])


def pairs(frame):
    return set(frame.dropna().itertuples(index=False, name=None))


def test_counts_follow_the_percentages(items):
    assert splits.summary(splits.make(items, "full", 0)) == {
        "pairs": 200,
        "annotated_images": 40,
        "unannotated_images": 0,
    }
    assert splits.summary(splits.make(items, "10pct-2cap", 0)) == {
        "pairs": 8,
        "annotated_images": 4,
        "unannotated_images": 36,
    }


def test_without_captions(items):
    frame = splits.make(items, "none", 0)
    assert splits.summary(frame) == {"pairs": 0, "annotated_images": 0, "unannotated_images": 40}


def test_smaller_inside_larger(items):
    chain = ["none", "10pct-1cap", "10pct-2cap", "20pct-2cap", "50pct-2cap", "50pct-5cap", "full"]
    sets = [pairs(splits.make(items, name, 3)) for name in chain]
    for small, large in itertools.pairwise(sets):
        assert small < large


def test_pairs_belong_together_and_are_of_training(items):
    frame = splits.make(items, "50pct-5cap", 1).dropna()
    assert (frame.caption_id.str.split("#").str[0] == frame.image_id).all()
    assert frame.image_id.str[1:].astype(int).max() < 40


def test_seeds_differ_and_repeat(items):
    one, again, other = (splits.make(items, "10pct-5cap", seed) for seed in (0, 0, 1))
    assert one.equals(again)
    assert pairs(one) != pairs(other)


@pytest.mark.parametrize("name", ["10pct", "0pct-1cap", "100pct-5cap", "10pct-6cap", "all"])
def test_unknown_names(items, name):
    with pytest.raises(UserError, match="NNpct-Mcap"):
        splits.make(items, name, 0)


@pytest.mark.parametrize("name", ["100pct-1cap", "10pct-0cap", "10pct-1capx", "x10pct-1cap", "", "Full"])
def test_names_at_the_borders(name):
    with pytest.raises(UserError, match="NNpct-Mcap"):
        splits.parse(name)


def test_what_a_name_says():
    assert splits.parse("full") == (100, None)
    assert splits.parse("none") == (0, None)
    assert splits.parse("1pct-1cap") == (1, 1)
    assert splits.parse("99pct-5cap") == (99, 5)
    assert splits.stage("full") is None
    assert splits.stage("classes1of1") == (1, 1)
    assert splits.stage("classes12of40") == (12, 40)


def numbered(n, captions=2):
    """`n` training images with as many captions each."""
    rows = [(f"i{i}", "image", f"i{i}", "train") for i in range(n)]
    rows += [(f"i{i}#{k}", "text", f"i{i}", "train") for i in range(n) for k in range(captions)]
    return pd.DataFrame(rows, columns=["item_id", "modality", "group_id", "partition"])


@pytest.mark.parametrize(
    ("images", "percent", "annotated"),
    [
        (200, 1, 2),
        (50, 1, 1),
        (10, 1, 1),
        (149, 1, 1),
        (151, 1, 2),
        (100, 29, 29),
        (1000, 57, 570),
        (3, 99, 3),
        (3, 50, 2),
    ],
)
def test_images_are_rounded_to_the_nearest_and_never_to_none(images, percent, annotated):
    """A half goes to the even number, as IEEE 754 rounds."""
    counts = splits.summary(splits.make(numbered(images), f"{percent}pct-1cap", 0))
    assert counts == {"pairs": annotated, "annotated_images": annotated, "unannotated_images": images - annotated}


def test_an_image_with_fewer_captions_gives_those_that_it_has():
    made = splits.make(numbered(10, captions=2), "50pct-5cap", 0).dropna()
    assert made.groupby("image_id").caption_id.nunique().tolist() == [2] * 5


def test_rows_are_in_the_order_of_the_items_and_bare_images_last():
    made = splits.make(numbered(20), "50pct-1cap", 4)
    annotated = made.caption_id.notna()
    assert annotated.tolist() == [True] * 10 + [False] * 10
    for part in (made[annotated], made[~annotated]):
        places = part.image_id.str[1:].astype(int)
        assert places.is_monotonic_increasing
    assert set(made.image_id) == {f"i{i}" for i in range(20)}


def test_each_image_and_each_caption_is_chosen_as_often_as_any_other():
    """Over 200 seeds each of 20 images is annotated 100 times and each of their five captions 20; s.d. 7.1 and 4.2."""
    items = numbered(20, captions=5)
    images, captions = np.zeros(20), np.zeros((20, 5))
    for seed in range(200):
        made = splits.make(items, "50pct-1cap", seed).dropna()
        images[made.image_id.str[1:].astype(int)] += 1
        for name in made.caption_id:
            image, _, k = name[1:].partition("#")
            captions[int(image), int(k)] += 1
    assert images.sum() == 2000
    assert abs(images - 100).max() < 5 * 7.1
    assert abs(captions - 20).max() < 5 * 4.3
    # Over all images a caption's place tells nothing: 400 of 2000 each, s.d. 18.
    assert abs(captions.sum(0) - 400).max() < 4 * 18


def test_which_captions_are_drawn_differs_from_image_to_image():
    made = splits.make(numbered(40, captions=5), "99pct-2cap", 0).dropna()
    chosen = made.groupby("image_id").caption_id.agg(lambda ids: tuple(sorted(one.partition("#")[2] for one in ids)))
    assert chosen.nunique() > 5  # of ten pairs


def test_the_same_images_and_captions_whatever_else_the_split_asks(items):
    """Nested along both axes: a larger share keeps the images, more captions keep those that were there."""
    for seed in range(5):
        made = {
            (share, n): pairs(splits.make(items, f"{share}pct-{n}cap", seed))
            for share in (10, 25, 75)
            for n in (1, 3, 5)
        }
        for (share, n), chosen in made.items():
            for (other, m), more in made.items():
                if share <= other and n <= m:
                    assert chosen <= more


def test_without_pairs_there_is_nothing_to_split():
    bare = numbered(3)
    with pytest.raises(UserError, match="no training image with a caption"):
        splits.make(bare[bare.modality == "image"], "full", 0)


def classes(sizes):
    """Training items of classes `c000`, ..., with as many items each, and one test item of each."""
    rows = [(f"{c}/{i}", f"c{c:03d}", "train") for c, size in enumerate(sizes) for i in range(size)]
    rows += [(f"{c}/test", f"c{c:03d}", "test") for c in range(len(sizes))]
    return pd.DataFrame(rows, columns=["item_id", "label", "partition"])


def stage_of(frame, split, stages=()):
    return sorted(splits.make_labelled(frame, split, stages).label.unique())


def test_birds_come_in_stages_of_40_40_40_and_30_as_published():
    """Gopalakrishnan 2019, table 13, from what params.yaml says of the data set."""
    datasets = experiments.load(ROOT / "params.yaml").datasets
    frame = classes([2] * 150)
    for name in ("cub", "cub_held"):
        stages = datasets[name].stages
        for number, (first, last) in enumerate([(0, 40), (40, 80), (80, 120), (120, 150)], 1):
            expected = [f"c{c:03d}" for c in range(first, last)]
            assert stage_of(frame, f"classes{number}of4", stages) == expected


def test_the_rows_of_table_13_say_what_has_been_trained_on():
    """Cumulated: 40, 80, 120, 150 of the birds; 5, 10, 15, 20 of Pascal."""
    params = experiments.load(ROOT / "params.yaml")
    paper = experiments.read_papers(["cvs"], ROOT / "papers")["cvs"]
    (table,) = [table for table in paper.tables if table.id == "table13"]
    sizes = {"pascal": classes([1] * 20), "cub": classes([1] * 150)}
    for row in table.rows:
        name = row.dataset or table.dataset
        if row.label.startswith("Stage"):
            number = int(row.label.removeprefix("Stage "))
            stages = params.datasets[name].stages
            seen = [stage_of(sizes[name], f"classes{k}of4", stages) for k in range(1, number + 1)]
            assert len(set(itertools.chain(*seen))) == row.extra["classes"]


EQUAL = [(20, 4, [5] * 4), (38, 4, [10, 10, 10, 8]), (10, 2, [5, 5]), (7, 3, [3, 3, 1]), (5, 5, [1] * 5), (6, 1, [6])]


@pytest.mark.parametrize(("count", "groups", "expected"), EQUAL)
def test_groups_of_one_size_where_none_are_named(count, groups, expected):
    frame = classes([1] * count)
    found = [stage_of(frame, f"classes{k}of{groups}") for k in range(1, groups + 1)]
    assert [len(group) for group in found] == expected
    assert list(itertools.chain(*found)) == [f"c{c:03d}" for c in range(count)]


def test_named_sizes_are_those_of_as_many_stages_only():
    frame = classes([1] * 6)
    assert [len(stage_of(frame, f"classes{k}of3", (1, 2, 3))) for k in (1, 2, 3)] == [1, 2, 3]
    assert [len(stage_of(frame, f"classes{k}of2", (1, 2, 3))) for k in (1, 2)] == [3, 3]


def test_sizes_that_are_not_those_of_the_classes():
    with pytest.raises(UserError, match=r"stages: 2 \+ 3 are 5 classes, but the training items are of 6"):
        stage_of(classes([1] * 6), "classes1of2", (2, 3))


def test_the_order_of_items_and_further_ones_move_no_class():
    frame = classes([3] * 12)
    shuffled = frame.sample(frac=1, random_state=3)
    more = pd.concat([pd.DataFrame({"item_id": ["x"], "label": ["c000"], "partition": ["train"]}), frame])
    unseen = pd.concat([pd.DataFrame({"item_id": ["y"], "label": ["b"], "partition": ["test"]}), frame])
    for number in (1, 2, 3, 4):
        expected = stage_of(frame, f"classes{number}of4")
        for other in (shuffled, more, unseen):
            assert stage_of(other, f"classes{number}of4") == expected


def test_a_stage_holds_all_training_items_of_its_classes_in_their_order():
    frame = classes([2, 3, 4, 5])
    made = splits.make_labelled(frame, "classes2of2")
    assert made.item_id.tolist() == [f"2/{i}" for i in range(4)] + [f"3/{i}" for i in range(5)]
    assert [*made.columns] == ["item_id", "label"]
    assert made.index.tolist() == list(range(9))
    assert splits.summary(made) == {"items": 9, "classes": 2}
    assert splits.summary(splits.make_labelled(frame, "full")) == {"items": 14, "classes": 4}


@pytest.mark.parametrize("name", ["classes0of2", "classes3of2", "classes1of0", "10pct-1cap", "none"])
def test_names_that_are_no_stage(name):
    with pytest.raises(UserError, match="classesIofN"):
        splits.make_labelled(classes([1, 1]), name)


def test_more_groups_than_classes_can_fill():
    with pytest.raises(UserError, match="4 classes cannot be cut into 3 groups of 2"):
        splits.make_labelled(classes([1] * 4), "classes1of3")


def test_items_without_a_class():
    frame = classes([2, 2])
    frame.loc[1, "label"] = None
    with pytest.raises(UserError, match="1 training items have no label, such as '0/1'"):
        splits.make_labelled(frame, "full")
    with pytest.raises(UserError, match="there are no training items"):
        splits.make_labelled(frame[frame.partition == "test"], "full")

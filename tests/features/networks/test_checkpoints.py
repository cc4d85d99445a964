"""State dicts of both families of checkpoints, made here under their names, into the detector."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from crossmodal.core.errors import UserError
from crossmodal.features.networks import checkpoints, detector
from crossmodal.features.networks.detector import CONVENTIONS, Shape
from tests.features.small_detector import CAFFE, DETECTRON2, NOISE, narrow, published


@pytest.fixture(scope="module")
def model() -> detector.Detector:
    return narrow()


@pytest.mark.parametrize("family", ["caffe", "detectron2"])
def test_the_published_size_has_640_keys(family):
    """Tensors of the true shapes, without values: 535 parameters, 104 counts of batches and the anchors."""
    with torch.device("meta"):
        full = detector.Detector(Shape(box_rows=6404 if family == "caffe" else 6400), CAFFE)
        state = published(full, family)
        norms = [name.removesuffix("running_var") for name in state if name.endswith("running_var")]
        state |= {f"{name}num_batches_tracked": torch.tensor(1) for name in norms}
        state["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(12, 4)
    assert len(state) == 640
    assert state["roi_heads.box_predictor.cls_score.weight"].shape == (1601, 2048)
    ours, shape = checkpoints.matched(state, "resnet101", family, "w.pth")
    assert set(ours) == {name for name in full.state_dict() if not name.endswith("num_batches_tracked")}
    assert shape == Shape(box_rows=6404 if family == "caffe" else 6400)
    found = checkpoints.convention_of(state)
    assert found == (family, CONVENTIONS[family])


@pytest.mark.parametrize(
    ("family", "form"), [("caffe", "pth"), ("caffe", "safetensors"), ("detectron2", "pth"), ("detectron2", "pkl")]
)
def test_a_checkpoint_is_loaded_and_run(model, tmp_path, family, form):
    state = published(model, family)
    if family == "detectron2":  # no rows for the background's box, whose place is the last
        for leaf in ("weight", "bias"):
            state[f"roi_heads.box_predictor.bbox_pred.{leaf}"] = state[f"roi_heads.box_predictor.bbox_pred.{leaf}"][:-4]
    path = tmp_path / f"w.{form}"
    if form == "pth":
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "iteration": 3}, path)
    elif form == "safetensors":
        save_file(state, path)
    else:
        arrays = {name: value.numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    loaded, facts = checkpoints.load(path, "resnet50")
    assert facts["family"] == family
    assert facts["convention"]["background"] == {"caffe": "first", "detectron2": "last"}[family]
    assert facts["anchors"] == "by the convention"
    assert len(facts["weights_sha256"]) == 64
    own = loaded.state_dict()
    for name, value in model.state_dict().items():
        expected = value[: len(own[name])] if name.startswith("head.boxes") else value
        assert torch.equal(own[name], expected) or name.endswith("num_batches_tracked")
    pixels, scale = detector.pixels_of(Image.fromarray(NOISE), 64, 200)
    found = loaded.detect(pixels, scale, proposals=8, least=4, most=4, confidence=0.2, overlap=0.3)
    assert found.features.shape == (4, 2048)
    assert found.boxes.shape == (4, 4)
    assert found.features.isfinite().all()
    if family == "caffe":
        again = model.detect(pixels, scale, proposals=8, least=4, most=4, confidence=0.2, overlap=0.3)
        assert torch.equal(found.features, again.features)


def test_conventions_are_told_apart_and_can_be_set(model):
    mixed = published(model, "detectron2")  # with rows for the background's box: Caffe's order under the other names
    assert checkpoints.convention_of(mixed)[1].background == "first"
    assert checkpoints.convention_of(mixed, "detectron2")[1] == DETECTRON2
    family, chosen = checkpoints.convention_of(mixed, "caffe", anchors="size", box_weights=(10, 10, 5, 5), kept=None)
    assert family == "detectron2"
    assert (chosen.anchors, chosen.box_weights, chosen.kept) == ("size", (10, 10, 5, 5), "proposal")


def test_anchors_of_the_file_are_taken(model, tmp_path):
    cells = detector.anchor_boxes(DETECTRON2)
    state = published(model, "caffe") | {"proposal_generator.anchor_generator.cell_anchors.0": cells}
    save_file(state, tmp_path / "w.safetensors")
    loaded, facts = checkpoints.load(tmp_path / "w.safetensors", "resnet50")
    assert facts["anchors"] == "of the file"
    assert torch.equal(loaded.anchors, cells)


def test_other_weights_are_refused(model, tmp_path):
    def refused(change, network: str = "resnet50") -> str:
        state = published(model, "caffe")
        change(state)
        path = tmp_path / "w.safetensors"
        save_file(state, path)
        with pytest.raises(UserError) as told:
            checkpoints.load(path, network)
        return str(told.value)

    last = "roi_heads.res5.2.conv3.norm.bias"
    assert "res5.2.bn3.bias is missing (1 missing, 0 unexpected" in refused(lambda s: s.pop(last))
    message = refused(lambda s: s.update({"roi_heads.mask_head.weight": torch.zeros(2)}))
    assert "roi_heads.mask_head.weight is not one of its names (0 missing, 1 unexpected" in message
    message = refused(lambda s: s.update({last: torch.zeros(7)}))
    assert f"{last} is (7,), expected (2048,)" in message
    assert "missing" in refused(lambda s: None, "resnet101")

    def coco(state: dict[str, Tensor]) -> None:
        for name in list(state):
            if "cls_score" in name or "cls_embed" in name:
                state[name] = state[name][:81].clone()

    assert "it distinguishes 81 classes and 401 attributes" in refused(coco)


def test_a_pickle_runs_nothing(tmp_path):
    class Harm:
        def __reduce__(self):
            return warnings.warn, ("run",)

    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(Harm()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=r"w\.pkl: cannot be read .*holds .*warn, no array"):
            checkpoints.load(path, "resnet50")


def test_a_seed_makes_the_weights():
    one, facts = checkpoints.seeded("resnet50", 3)
    assert facts["fallback"] == "seeded random weights"
    assert facts["weights_sha256"] == checkpoints.seeded("resnet50", 3)[1]["weights_sha256"]
    assert facts["weights_sha256"] != checkpoints.seeded("resnet50", 4)[1]["weights_sha256"]
    pixels, scale = detector.pixels_of(Image.fromarray(NOISE), 64, 200)
    found = one.detect(pixels, scale, proposals=5, least=5, most=5, confidence=0.2, overlap=0.3)
    assert 0 < found.features.abs().mean() < 100

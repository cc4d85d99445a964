import numpy as np
import pandas as pd
import pytest
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.features import pixels
from crossmodal.features.engine import extraction, store


def made(folder, picture, **settings):
    Image.fromarray(picture).save(folder / "x.png")
    items = pd.DataFrame([{"item_id": "x", "modality": "image", "partition": "train", "source": "x.png"}])
    target = folder / "features" / "image.pixels"
    extraction.run("pixels", items, folder, pixels.Settings(**settings), target, threads=1, modality="image")
    found = store.open_features(target)
    assert found.array.dtype == np.uint8
    return np.array(found.array)[0]


def test_the_middle_of_a_picture_as_it_is(tmp_path):
    """A picture of the asked-for height loses its sides and nothing else."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    np.testing.assert_array_equal(made(tmp_path, picture, resize=32, crop=32), picture[:, 8:40].transpose(2, 0, 1))


def test_the_margin_between_resize_and_crop(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    expected = picture[4:28, 8:32].transpose(2, 0, 1)
    np.testing.assert_array_equal(made(tmp_path, picture, resize=32, crop=24), expected)


def test_a_picture_made_smaller_keeps_its_mean(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    small = made(tmp_path, ramp, resize=16, crop=16)
    assert small.shape == (3, 16, 16)
    assert abs(small.mean() - ramp.mean()) < 1
    assert (np.diff(small[0, 0].astype(int)) > 10).all()  # still a ramp: 255 / 16 per step


def test_what_cannot_be():
    with pytest.raises(ValueError, match="do not fit"):
        pixels.Settings(resize=32, crop=64)


def test_another_modality_is_refused(tmp_path):
    items = pd.DataFrame([{"item_id": "x", "modality": "video", "partition": "train", "source": "x.mp4"}])
    with pytest.raises(UserError, match="'pixels' reads image"):
        extraction.run("pixels", items, tmp_path, pixels.Settings(), tmp_path / "x", threads=1, modality="video")

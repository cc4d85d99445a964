"""What pictures are read as: in some formats, by the range of their numbers, within bounds."""

import base64
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features
from torchvision.transforms.functional import InterpolationMode, center_crop, pil_to_tensor, resize, ten_crop

from crossmodal.core import limits, pictures
from crossmodal.core.errors import UserError
from crossmodal.features import image
from crossmodal.reporting.page import thumbnails

RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(marker) (w) file closefile\n%%EOF\n"


def saved(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("eight.png", RAMP),
        ("sixteen.png", RAMP.astype(np.uint16) * 257),  # 0 ... 65,535
        ("sixteen.tif", RAMP.astype(np.uint16) * 257),
        ("float.tif", (RAMP / 255).astype(np.float32)),
    ],
)
def test_the_range_of_a_type_is_brought_to_that_of_bytes(tmp_path, name, values):
    path = saved(tmp_path / name, values)
    read = pictures.read(path)
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), np.repeat(RAMP[:, :, None], 3, 2))
    # The small copy of the report is of the same opener.
    small = Image.open(io.BytesIO(base64.b64decode(thumbnails.medium(path, "image").picture.partition(",")[2])))
    middle = np.asarray(small)[56, :, 0].astype(int)
    assert middle[0] < 10
    assert middle[-1] > 245
    assert abs(middle.mean() - 127.5) < 3


def test_sixteen_bits_are_rounded_to_the_nearest(tmp_path):
    values = np.array([[0, 128, 129, 385, 386, 65_535]] * 4, np.uint16)  # 257 a level: .498, .502, 1.498, 1.502
    read = np.asarray(pictures.read(saved(tmp_path / "x.png", values)))
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_a_tiff_whose_white_is_zero_is_turned(tmp_path):
    path = tmp_path / "x.tif"
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[pictures.PHOTOMETRIC] = 0
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path, tiffinfo=info)
    data = path.read_bytes()
    with Image.open(path) as found:
        assert found.tag_v2[pictures.PHOTOMETRIC] == 0, data[:0]
    np.testing.assert_array_equal(np.asarray(pictures.read(path))[:, :, 0], 255 - RAMP)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (RAMP.astype(np.int32) * 257, "signed or 32-bit integers"),
        (RAMP.astype(np.float32), "numbers from 0 to 255 .*expected 0 .black. to 1 .white."),
        (np.full((8, 8), np.nan, np.float32), "numbers from nan to nan"),
        (np.full((8, 8), -0.5, np.float32), "numbers from -0.5"),
    ],
)
def test_a_range_that_is_not_known_is_refused(tmp_path, values, words):
    with pytest.raises(UserError, match=rf"x\.tif: holds {words}"):
        pictures.read(saved(tmp_path / "x.tif", values))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif", "avif"])
def test_formats_of_photographs_are_opened_whatever_their_name(tmp_path, ending):
    path = saved(tmp_path / f"x.{ending}", np.full((16, 16, 3), (200, 40, 90), np.uint8))
    other = path.rename(tmp_path / "x.of another name")
    assert np.abs(np.asarray(pictures.read(other)).astype(int) - (200, 40, 90)).max() <= 8


@pytest.mark.parametrize("kind", ["PPM", "PCX", "ICO", "TGA", "SGI", "JPEG2000", "DDS"])
def test_other_formats_are_not_opened(tmp_path, kind):
    saved(tmp_path / "x.jpg", PHOTOGRAPH, format=kind)
    with pytest.raises(UserError, match=r"no image of a format that is opened .*JPEG, PNG"):
        pictures.read(tmp_path / "x.jpg")
    assert thumbnails.medium(tmp_path / "x.jpg", "image") == thumbnails.Medium()


def test_a_program_by_the_name_of_a_picture_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: (tmp_path / "marker").touch())
    (tmp_path / "x.jpg").write_bytes(PROGRAM)
    for open_ in (pictures.read, lambda path: thumbnails._image(path)):
        with pytest.raises(UserError, match="no image of a format"):
            open_(tmp_path / "x.jpg")
    assert not (tmp_path / "marker").exists()


def test_the_bound_of_pixels_is_a_setting_and_comes_before_decoding(tmp_path):
    path = saved(tmp_path / "x.png", PHOTOGRAPH)
    limits.use(limits.Limits(pixels=64 * 40 - 1))
    with pytest.raises(UserError, match=r"x\.png: is 64 x 40 pixels; .*limits\.pixels"):
        pictures.read(path)
    with pytest.raises(UserError, match=r"limits\.pixels"):
        thumbnails._image(path)
    limits.use(limits.Limits(pixels=64 * 40))
    np.testing.assert_array_equal(np.asarray(pictures.read(path)), PHOTOGRAPH)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (40, 40), (5, 70), (8, 2000), (2000, 8)])
@pytest.mark.parametrize(("short", "side"), [(40, 32), (32, 31), (64, 64), (8, 8)])
def test_squares_are_those_of_torchvision(shape, short, side):
    """Of thin pictures too, to a rounding: there only the squares are made."""
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8))
    whole = resize(picture, short, InterpolationMode.BILINEAR)
    thin = max(whole.size) > pictures.THIN * short
    expected = [center_crop(whole, side)], list(ten_crop(whole, side))
    for ten, those in zip((False, True), expected, strict=True):
        squares = pictures.crops(picture, short, side, ten=ten)
        assert len(squares) == len(those)
        for one, other in zip(squares, those, strict=True):
            off = np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int))
            assert off.max() <= (1 if thin else 0)


def test_a_thin_picture_takes_little_memory(tmp_path, monkeypatch):
    """60,000 x 4 scaled to a short side of 256 would be 983 million pixels."""
    made = []
    plain = Image.Image.resize

    def watched(self, size, *args, **options):
        made.append(size[0] * size[1])
        return plain(self, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    path = tmp_path / "x.png"
    Image.new("RGB", (60_000, 4), (90, 120, 30)).save(path)
    settings = image.Settings(network="resnet18", weights="seeded")
    tensor = image.decode(path, settings)
    assert tensor.shape == (3, 224, 224)
    assert (tensor.new_tensor([90, 120, 30]) == tensor.flatten(1).T).all()
    assert made
    assert max(made) <= 224 * 224
    assert pil_to_tensor(pictures.middle(pictures.read(path), 64, 64)).shape == (3, 64, 64)


def test_a_jpeg_of_hundreds_of_scans_is_refused(tmp_path):
    path, stream = tmp_path / "scans.jpg", io.BytesIO()
    Image.new("L", (64, 64), 128).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    assert data.count(b"\xff\xda") == 6  # Pillow's own number for a grey picture
    last = data[data.rindex(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + 94 * last + data[-2:])
    assert pictures.read(path).size == (64, 64)
    path.write_bytes(data[:-2] + 95 * last + data[-2:])
    with pytest.raises(UserError, match="has 101 scans, expected at most 100"):
        pictures.read(path)


def test_tiles_larger_than_any_picture_are_refused(tmp_path):
    path = tmp_path / "tiles.tif"
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 36_000, 323: 36_000, 324: 134, 325: 8}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + zlib.compress(b"")[:8])
    with pytest.raises(UserError, match="has tiles of 36000 x 36000 pixels, expected at most 50 million"):
        pictures.read(path)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_half_as_many_pixels_of_avif(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(pixels=8000))
    for size, allowed in (((50, 80), True), ((50, 81), False)):
        Image.new("RGB", size).save(tmp_path / "x.avif")
        if allowed:
            assert pictures.read(tmp_path / "x.avif").size == size
        else:
            with pytest.raises(UserError, match=r"at most 0\.004 million in all .*half of which for AVIF"):
                pictures.read(tmp_path / "x.avif")


def most_at_once(paths):
    """The largest number of pictures that as many threads had open at once, each for a while."""
    opened, counts = [], []
    started = threading.Barrier(len(paths))

    def read(path):
        started.wait()
        with pictures.opened(path) as picture:
            opened.append(path)
            counts.append(len(opened))
            time.sleep(0.1)
            picture.load()
            opened.remove(path)

    with ThreadPoolExecutor(len(paths)) as pool:
        [*pool.map(read, paths)]
    return max(counts)


def test_threads_decode_as_many_pictures_at_once_as_there_is_room_for(tmp_path, monkeypatch):
    """Two of the largest took 1.4 GB, and sixteen threads as many times more."""
    paths = [saved(tmp_path / f"{n}.png", PHOTOGRAPH) for n in range(4)]  # of 8 bytes for each of 2,560 pixels
    assert most_at_once(paths) == 4
    monkeypatch.setattr(pictures, "ROOMLESS", 8 * 2560)
    monkeypatch.setattr(pictures, "TOGETHER", 2 * 8 * 2560)
    assert most_at_once(paths) == 2
    monkeypatch.setattr(pictures, "TOGETHER", 1000)
    assert most_at_once(paths) == 1
    monkeypatch.setattr(pictures, "ROOMLESS", 8 * 2560 + 1)
    assert most_at_once(paths) == 4


def test_a_picture_within_another_waits_for_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ROOMLESS", 0)
    monkeypatch.setattr(pictures, "TOGETHER", 0)
    path = saved(tmp_path / "a.png", PHOTOGRAPH)
    with pictures.opened(path):
        assert pictures.read(path).size == (64, 40)
    with pytest.raises(UserError), pictures.opened(path):
        raise OSError("damaged")
    assert pictures._room.bytes == 0
    assert pictures.read(path).size == (64, 40)


@pytest.mark.parametrize(
    ("name", "mode", "how", "each"),
    [
        ("a.jpg", "RGB", {}, 5),
        ("a.jpg", "RGB", {"progressive": True}, 8),
        ("a.jpg", "CMYK", {"progressive": True}, 12),
        ("a.jpg", "CMYK", {}, 9),
        ("a.webp", "RGB", {}, 15),
        ("a.tiff", "CMYK", {}, 8),
    ],
)
def test_the_memory_that_a_picture_takes_by_its_header(tmp_path, name, mode, how, each):
    Image.new(mode, (40, 20)).save(tmp_path / name, **how)
    with pictures.opened(tmp_path / name) as opened:
        assert pictures._memory(opened) == 800 * each


@pytest.mark.parametrize(
    ("name", "mode", "progressive", "kind"),
    [
        ("a.webp", "RGB", False, "WEBP"),
        ("a.jpg", "CMYK", True, "progressive CMYK"),
        ("a.png", "RGB", False, ""),
        ("a.jpg", "CMYK", False, ""),
        ("a.jpg", "RGB", True, ""),
    ],
)
def test_what_takes_most_memory_may_have_half_the_pixels(tmp_path, name, mode, progressive, kind):
    """WebP took 700 MB for 49 million, and a progressive JPEG of four colours 560."""
    limits.use(limits.Limits(pixels=1600))
    Image.new(mode, (40, 21)).save(tmp_path / name, progressive=progressive)
    if kind:
        with pytest.raises(UserError, match=f"half of which for {kind}"):
            pictures.read(tmp_path / name)
    else:
        assert pictures.read(tmp_path / name).size == (40, 21)

"""The five-modality world: the same bytes always, files that other libraries read, and neither trivial nor hopeless."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import trimesh
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.neighbors import NearestCentroid

from crossmodal.core import cores
from crossmodal.core.errors import UserError
from crossmodal.datasets import items, media_world
from crossmodal.datasets.drawing import media, pictures, sentences, sounds, work
from crossmodal.datasets.drawing.classes import NAMES, instance

SETTINGS = media_world.Settings(seed=3, images=60, audio=60, videos=60, meshes=60, shortest=0.2, longest=0.4)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cores.VARIABLE, "1")
        media_world.make(SETTINGS, folder, title="Small")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files(made: Path, modality: str) -> list[Path]:
    frame = items.read(made)
    return [items.root(made) / source for source in frame.source[frame.modality == modality]]


def test_counts_classes_and_partitions(made):
    frame = items.read(made)
    assert frame.modality.value_counts().to_dict() == dict.fromkeys(("image", "text", "audio", "video", "mesh"), 60)
    assert frame.groupby(["modality", "label", "partition"]).size().eq(1).all()
    assert set(frame.label) == set(NAMES)
    assert json.loads((made / "items.json").read_text())["classes"] == sorted(NAMES)
    pairs = frame[frame.modality.isin(["image", "text"])].groupby("group_id")
    assert len(pairs) == 60
    assert pairs.label.nunique().eq(1).all()


def test_a_fifth_is_tested():
    assert np.mean([media_world.tested(k) for k in range(2000)]) == 0.2
    assert {k % 20 for k in range(100) if media_world.tested(k)} == set(range(20))


def test_another_process_writes_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "CHUNK", 2)
    places = [(modality, index) for modality in media_world.ENDINGS for index in (4, 31)]
    work.each(partial(media_world._draw, SETTINGS, tmp_path), places, workers=2)
    drawn = contents(tmp_path)
    assert len(drawn) == 10
    assert all((made / "raw" / name).read_bytes() == data for name, data in drawn.items())


def test_an_item_is_a_function_of_seed_modality_and_index(made, tmp_path):
    more = SETTINGS.model_copy(update={"images": 999, "audio": 999, "videos": 999, "meshes": 999})
    for modality in media_world.ENDINGS:
        name = media_world.source(modality, 47)
        assert Path(name).parts[1] == NAMES[7]
        media_world._draw(more, tmp_path / "same", (modality, 47))
        assert (tmp_path / "same" / name).read_bytes() == (made / "raw" / name).read_bytes()
        media_world._draw(SETTINGS.model_copy(update={"seed": 4}), tmp_path / "other", (modality, 47))
        assert (tmp_path / "other" / name).read_bytes() != (made / "raw" / name).read_bytes()


def test_what_an_earlier_drawing_left_is_gone_and_foreign_files_stay(tmp_path, monkeypatch):
    folder = tmp_path / "audio" / "dog"
    folder.mkdir(parents=True)
    for name in ("0002.wav", "0003.wav", "12345.wav", ".0001.wav.77.part", "notes.txt", "0003.mp4"):
        (folder / name).touch()
    monkeypatch.setattr(media_world, "each", lambda *_: None)
    media_world.draw(SETTINGS, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["0002.wav", "0003.mp4", "notes.txt"]


def test_no_two_items_are_alike(made):
    for modality in ("image", "audio", "video", "mesh"):
        found = files(made, modality)
        assert len({path.read_bytes() for path in found}) == len(found) == 60
    texts = [sentences.text(instance(1, "text", index)) for index in range(1000)]
    assert len(set(texts)) > 990


def test_sounds_are_mono_and_neither_silent_nor_clipped(made):
    for path in files(made, "audio"):
        wave, rate = soundfile.read(path, dtype="int16")
        assert (rate, wave.ndim, soundfile.info(path).subtype) == (sounds.RATE, 1, "PCM_16")
        assert 0.19 < len(wave) / rate < 0.41
        assert np.abs(wave.astype(int)).max() > 3000
        assert (np.abs(wave.astype(int)) > 32_000).mean() < 0.01


def test_videos_are_read_by_pyav_and_move(made):
    still = 0
    for path in files(made, "video"):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert 2 <= len(shown) <= 4
        assert shown[0].shape == (pictures.VIDEO_HEIGHT, pictures.VIDEO_WIDTH, 3)
        still += np.array_equal(shown[0], shown[-1])
    assert still == 0


def test_frames_survive_encoding(tmp_path):
    drawn = list(pictures.frames(instance(1, "video", 5), 0.5, 0.5))
    for codec in ("libx264", "mpeg4"):
        media.mp4(tmp_path / codec, drawn, pictures.FRAMES_A_SECOND, codec)
        with av.open(str(tmp_path / codec)) as container:
            assert float(container.streams.video[0].average_rate) == pictures.FRAMES_A_SECOND
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(shown) == len(drawn) == 6
        assert np.abs(np.stack(shown).astype(int) - np.stack(drawn)).mean() < 12


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match="has no encoder 'libx264'; set `codec`"):
        media.mp4(tmp_path / "a.mp4", iter([]), 12, "libx264")
    assert list(tmp_path.iterdir()) == []


def test_meshes_are_read_by_trimesh(made):
    for path in files(made, "mesh"):
        solid = trimesh.load(path, process=False)
        assert 100 < len(solid.faces) < 3000
        assert np.isfinite(solid.vertices).all()
        assert solid.extents.min() > 0.02 * solid.extents.max()
        assert solid.faces.max() == len(solid.vertices) - 1


def test_pictures_show_the_thing_before_its_background(made):
    for path in files(made, "image")[:20]:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (176, 144))
            assert np.asarray(image, float).std() > 8


def nearest(features: np.ndarray) -> float:
    """Share of every fifth item of a class that is nearest to its class's mean of the others."""
    kind = np.arange(len(features)) % len(NAMES)
    test = np.array([media_world.tested(k) for k in range(len(features))])
    spread = features[~test].std(0) + 1e-9
    found = NearestCentroid().fit(features[~test] / spread, kind[~test])
    return found.score(features[test] / spread, kind[test])


def test_sounds_tell_their_class_but_not_easily():
    spectra = []
    for index in range(300):
        wave = sounds.clip(instance(1, "audio", index), 0.5, 0.8).astype(float)
        power = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(wave, 512)[::256] * np.hanning(512))) ** 2
        bands = np.add.reduceat(power, [1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 86, 115, 154, 205], axis=1)
        level = np.log(bands + 1e-3)
        spectra.append(np.concatenate([level.mean(0) - level.mean(), level.std(0)]))
    assert 0.3 < nearest(np.array(spectra)) < 0.85


def test_texts_tell_their_class_but_not_easily():
    texts = [sentences.text(instance(1, "text", index)) for index in range(2000)]
    counts = CountVectorizer().fit_transform(texts).toarray().astype(float)
    kind = np.arange(2000) % 20
    test = np.array([media_world.tested(k) for k in range(2000)])
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    assert 0.45 < NearestCentroid().fit(unit[~test], kind[~test]).score(unit[test], kind[test]) < 0.85


def test_meshes_tell_their_class_but_not_easily():
    shapes = []
    for index in range(200):
        vertices, faces = pictures.mesh(instance(1, "mesh", index))
        solid = trimesh.Trimesh(vertices, faces, process=False)
        points, _ = trimesh.sample.sample_surface(solid, 1000, seed=0)
        away = np.linalg.norm(points[:500] - points[500:], axis=1)
        axes = np.sort(np.linalg.eigvalsh(np.cov(points.T)))
        shapes.append([*np.quantile(away / away.mean(), np.linspace(0.05, 0.95, 10)), *(axes / axes.sum())])
    assert 0.3 < nearest(np.array(shapes)) < 0.9


def test_a_text_tells_of_its_picture():
    for index in range(40):
        one, other = instance(1, "image", index), instance(1, "text", index)
        assert (one.kind, one.colour, one.place) == (other.kind, other.colour, other.place)


def test_a_killed_drawing_leaves_no_table(made, tmp_path, monkeypatch):
    (tmp_path / "items.parquet").write_bytes((made / "items.parquet").read_bytes())

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(media_world, "each", killed)
    with pytest.raises(KeyboardInterrupt):
        media_world.make(SETTINGS, tmp_path, title="x")
    assert not (tmp_path / "items.parquet").exists()

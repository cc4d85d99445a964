"""Counters of energy: sums over processors, counters that begin anew, and machines that have none."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from crossmodal.core.energy import Meter, card_joules


def write(folder: Path, zone: str, value: int, most: int = 999) -> None:
    (folder / zone).mkdir(exist_ok=True)
    for name, number in (("max_energy_range_uj", most), ("energy_uj", value)):
        whole = folder / zone / f"{name}.new"  # as the kernel does: no reading finds half a number
        whole.write_text(f"{number}\n")
        whole.replace(folder / zone / name)


def test_processors_are_added_and_parts_are_not(tmp_path: Path) -> None:
    for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write(tmp_path, zone, 100)
    meter = Meter(tmp_path)
    assert meter.read() == 0
    write(tmp_path, "intel-rapl:0", 150)
    write(tmp_path, "intel-rapl:0:0", 900)
    write(tmp_path, "intel-rapl:1", 107)
    assert meter.stop() == pytest.approx(57e-6)


def test_a_counter_that_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 990)
    meter = Meter(tmp_path)
    write(tmp_path, "intel-rapl:0", 20)
    assert meter.read() == pytest.approx(30e-6)
    write(tmp_path, "intel-rapl:0", 5)
    assert meter.stop() == pytest.approx((30 + 985) * 1e-6)


def test_readings_between(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 0)
    meter = Meter(tmp_path, seconds=0.005)
    write(tmp_path, "intel-rapl:0", 600)
    while meter._spent < 600:
        pass
    write(tmp_path, "intel-rapl:0", 100)
    assert meter.stop() == pytest.approx(1100e-6)


def test_a_machine_without_counters(tmp_path: Path) -> None:
    assert Meter(tmp_path).stop() is None
    write(tmp_path, "intel-rapl:0", 5)
    (tmp_path / "intel-rapl:0" / "max_energy_range_uj").unlink()
    assert Meter(tmp_path).stop() is None
    write(tmp_path, "intel-rapl:0", 5)
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.stop() is None


def test_a_card_counts_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its UUID, so that CUDA_VISIBLE_DEVICES may number the cards as it likes."""
    counted = {"GPU-a": 5_250}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counted.__getitem__)
    assert card_joules("a") == 5.25


def test_a_card_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert card_joules("a") is None

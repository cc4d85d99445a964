"""One run per graphics card, on cards that are made up; the processor where there is none."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout

from crossmodal.training import devices


@pytest.fixture
def cards(monkeypatch):
    """Two cards, whose numbers CUDA_VISIBLE_DEVICES may give to others; their UUIDs stay."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid="ab"[i]))


def test_without_a_card_the_processor_is_used_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for _ in range(2):
        with devices.device_slot(tmp_path / "locks") as one, devices.device_slot(tmp_path / "locks") as other:
            assert one == other == torch.device("cpu")
    assert not (tmp_path / "locks").exists()


def test_runs_at_once_are_on_cards_of_their_own(tmp_path, cards):
    locks = tmp_path / "deep" / "locks"
    with devices.device_slot(locks) as one, devices.device_slot(locks) as other:
        assert (one, other) == (torch.device("cuda", 0), torch.device("cuda", 1))
        for name in "ab":
            with pytest.raises(Timeout), FileLock(locks / f"gpu-{name}.lock", timeout=0):
                pass
    with devices.device_slot(locks) as again:
        assert again == torch.device("cuda", 0)


def test_a_card_is_free_again_after_a_run_that_fails(tmp_path, cards):
    with pytest.raises(ValueError, match="broken"), devices.device_slot(tmp_path):
        raise ValueError("broken")
    with devices.device_slot(tmp_path) as device:
        assert device.index == 0


def test_where_all_are_taken_one_is_waited_for_and_the_log_says_so_once(tmp_path, cards, monkeypatch, caplog):
    held = [FileLock(tmp_path / f"gpu-{name}.lock") for name in "ab"]
    for lock in held:
        lock.acquire()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            held[1].release()

    monkeypatch.setattr(devices.time, "sleep", wait)
    with caplog.at_level(logging.INFO), devices.device_slot(tmp_path) as device:
        assert device == torch.device("cuda", 1)
    assert len(waits) == 3
    assert all(0 < seconds <= 10 for seconds in waits)
    assert [line for line in caplog.messages if "all 2 GPUs are taken" in line] == caplog.messages
    assert len(caplog.messages) == 1

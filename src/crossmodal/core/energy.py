"""The energy used by a machine's processors, where Linux reports it (RAPL, `/sys/class/powercap`), and by its GPUs.

The energy is that of whole processors, including other work on them. NVIDIA's driver counts each GPU separately.
"""

from __future__ import annotations

import threading
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SECONDS = 30.0  # between two readings: a counter wraps around after some 250 kJ


class Meter:
    """A meter of the processors' energy, which counts from its creation on."""

    def __init__(self, folder: Path = POWERCAP, seconds: float = SECONDS):
        self._last: dict[Path, int] = {}
        self._range: dict[Path, int] = {}
        self._spent = 0
        self._lock = threading.Lock()
        for zone in sorted(folder.glob("*rapl:[0-9]*")):
            if zone.name.count(":") == 1:  # a processor, not a part of one
                try:
                    self._last[zone] = _number(zone / "energy_uj")
                    self._range[zone] = _number(zone / "max_energy_range_uj")
                except (OSError, ValueError):  # mostly readable for root alone
                    self._last.clear()  # as in `read`
                    break
        self._stop = threading.Event()
        if self._last:
            threading.Thread(target=self._count, args=(seconds,), daemon=True).start()

    def _count(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.read()

    def read(self) -> float | None:
        """Joules since the creation; None where the counters cannot be read."""
        with self._lock:
            for zone, last in list(self._last.items()):
                try:
                    now = _number(zone / "energy_uj")
                except (OSError, ValueError):
                    self._last.clear()  # a sum of some of the processors would be taken for that of all
                    break
                self._spent += (now - last) % (self._range[zone] + 1)
                self._last[zone] = now
            return self._spent / 1e6 if self._last else None

    def stop(self) -> float | None:
        """Stop counting and return the last reading, like `read`."""
        self._stop.set()
        return self.read()


def card_joules(uuid: str) -> float | None:
    """Joules that an NVIDIA GPU has used since its driver was loaded; None where unknown (parts of a GPU)."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")) / 1e3
    except pynvml.NVMLError:
        return None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))

"""What is installed is pinned with hashes, what builds it too; lower bounds leave versions with known faults out."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LISTS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_pin_has_a_hash(path):
    pins = re.split(r"\n(?=\S)", re.sub(r"^ +#.*\n", "", path.read_text() + "\n", flags=re.M).strip())
    assert pins
    for pin in pins:
        assert re.match(r"[\w.\[\],-]+==\S+", pin), pin
        assert "--hash=sha256:" in pin, pin


def test_the_build_tools_are_pinned():
    pinned = (ROOT / "requirements" / "build.txt").read_text()
    for name in [Requirement(text).name for text in PROJECT["build-system"]["requires"]] + ["setuptools", "wheel"]:
        assert re.search(rf"^{name}==", pinned, re.M), name
    script = (ROOT / "requirements" / "install.sh").read_text()
    assert script.count("--no-build-isolation") == 2
    assert script.count("--require-hashes") == 3
    subprocess.run(["sh", "-n", ROOT / "requirements" / "install.sh"], check=True)


# The last version that an advisory names, of what pyproject.toml asks for.
AFFECTED = {
    "CVE-2026-8461": ("av", "17.1.0"),  # holds FFmpeg 8.1.1
    "CVE-2026-22701": ("filelock", "3.20.2"),
    "CVE-2026-26200": ("h5py", "3.12.1"),  # an older HDF5
    "GHSA-cpwx-vrp4-4pq7": ("jinja2", "3.1.5"),
    "GHSA-gq3w-7jj3-x7gr": ("mlflow", "3.16.0"),
    "CVE-2026-81726": ("nltk", "3.10.3"),
    "GHSA-hwpq-hmq9-wj77": ("onnx", "1.21.0"),
    "GHSA-6r8x-57c9-28j4": ("pillow", "12.2.0"),
    "CVE-2025-71176": ("pytest", "9.0.2"),
    "CVE-2026-25087": ("pyarrow", "23.0.0"),
    "CVE-2024-5206": ("scikit-learn", "1.4.2"),
    "CVE-2025-3000": ("torch", "2.12.0"),
}

# The first version without the advisory, of what these bring along: the lists of pinned versions alone decide there.
MENDED = {
    "GHSA-cq5v-8q36-5273": ("aiohttp", "3.14.3"),
    "CVE-2026-54591": ("asyncssh", "2.23.1"),
    "PYSEC-2026-3552": ("cryptography", "50.0.1"),
    "CVE-2019-1353": ("dulwich", "1.2.12"),
    "CVE-2026-78676": ("gitpython", "3.1.59"),
    "CVE-2026-45409": ("idna", "3.15"),
    "CVE-2026-44307": ("mako", "1.3.12"),
    "CVE-2026-0994": ("protobuf", "6.33.5"),
    "GHSA-4xgf-cpjx-pc3j": ("pydantic-settings", "2.14.2"),
    "CVE-2026-4539": ("pygments", "2.20.0"),
    "CVE-2026-61632": ("pymdown-extensions", "11.0"),
    "GHSA-mf9w-mj56-hr94": ("python-dotenv", "1.2.2"),
    "CVE-2026-25645": ("requests", "2.33.0"),
    "CVE-2026-54283": ("starlette", "1.3.1"),
    "CVE-2026-5241": ("transformers", "5.5.0"),
    "CVE-2026-44431": ("urllib3", "2.7.0"),
    "CVE-2026-24049": ("wheel", "0.46.2"),
}


@pytest.mark.parametrize("advisory", AFFECTED)
def test_versions_with_known_advisories_are_excluded(advisory):
    name, bad = AFFECTED[advisory]
    project = PROJECT["project"]
    bounds = map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"])
    assert not any(bound.specifier.contains(bad) for bound in bounds if bound.name == name)
    assert advisory in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("advisory", MENDED)
def test_pinned_versions_have_no_known_advisory(advisory):
    name, mended = MENDED[advisory]
    pins = [pin for path in LISTS for pin in re.findall(rf"^{name}==([^\s;]+)", path.read_text(), re.M)]
    assert pins
    assert all(Version(pin) >= Version(mended) for pin in pins)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o700), (0o002, 0o770)])
def test_records_of_dvc_lie_where_no_other_account_can_write(tmp_path, monkeypatch, umask, mode):
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "install.sh", tmp_path / "requirements")
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    tools = tmp_path / "bin"  # an environment whose pip and uv install nothing
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\n[ "$1" = -m ] || echo {tools}/python\n')
    (tools / "uv").write_text("#!/bin/sh\n")
    (tools / "dvc").write_text(f'#!/bin/sh\nexec {sys.executable} -m dvc "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    before = os.umask(umask)
    try:
        subprocess.run(["sh", tmp_path / "requirements" / "install.sh", tools / "python"], check=True)
    finally:
        os.umask(before)
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    where = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "core.site_cache_dir"],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "check": True},
    )
    records = Path(where.stdout.strip())
    assert records.is_relative_to(tmp_path)
    assert stat.S_IMODE(records.stat().st_mode) == mode


def test_sentence_encoders_that_run_a_folders_code_are_excluded():
    (bound,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["sentence-transformers"])
    assert not bound.specifier.contains("5.6.0")  # runs what lies in a local folder, whatever it is told
    pinned = (ROOT / "requirements" / "sentence-transformers.txt").read_text()
    assert re.search(r"^sentence-transformers==6\.", pinned, re.M)


def test_condas_environment_holds_what_conda_can_install():
    path = ROOT / "workflow" / "envs" / "crossmodal.yaml"
    assert all(isinstance(one, str) for one in yaml.safe_load(path.read_text())["dependencies"])
    assert "requirements/install.sh" in path.with_suffix(".post-deploy.sh").read_text()

"""What is installed is pinned with hashes, what builds it too; lower bounds leave versions with known faults out."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

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


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("mlflow", "3.16.9"), ("onnx", "1.20.9"), ("filelock", "3.20.2"), ("jinja2", "3.1.5"), ("nltk", "3.9.2")),
        *(("pillow", "12.1.0"), ("torch", "2.9.1")),  # their readers write beyond their memory
    ],
)
def test_versions_with_known_advisories_are_excluded(name, bad):
    bounds = {one.name: one for one in map(Requirement, PROJECT["project"]["dependencies"])}
    assert not bounds[name].specifier.contains(bad)


def test_sentence_encoders_that_run_a_folders_code_are_excluded():
    (bound,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["sentence-transformers"])
    assert not bound.specifier.contains("5.6.0")  # runs what lies in a local folder, whatever it is told
    pinned = (ROOT / "requirements" / "sentence-transformers.txt").read_text()
    assert re.search(r"^sentence-transformers==6\.", pinned, re.M)


def test_condas_environment_holds_what_conda_can_install():
    path = ROOT / "workflow" / "envs" / "crossmodal.yaml"
    assert all(isinstance(one, str) for one in yaml.safe_load(path.read_text())["dependencies"])
    assert "requirements/install.sh" in path.with_suffix(".post-deploy.sh").read_text()

"""Features and runs to a DVC remote and back: an S3 server, where its packages are."""

import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.commands import ROOT, ok

pytest.importorskip("dvc_s3", reason="needs dvc-s3")
server = pytest.importorskip("moto.server", reason="needs moto[server]")

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


def test_an_s3_server(tmp_path: Path) -> None:
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    listening = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    listening.start()
    try:
        address = "http://{}:{}".format(*listening.get_host_and_port())
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        bucket = boto3.client("s3", endpoint_url=address, **keys)
        bucket.create_bucket(Bucket="features")
        folder = tmp_path / "project"
        array = folder / "data/toy/features/image.raw.npy"
        array.parent.mkdir(parents=True)
        array.write_bytes(os.urandom(100_000))
        (folder / ".dvc").mkdir()
        for name in (".dvc/config", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, folder / name)
        ok(folder, "git", "init", "--quiet")
        ok(folder, "dvc", "remote", "add", "--default", "s3", "s3://features/crossmodal")
        ok(folder, "dvc", "remote", "modify", "s3", "endpointurl", address)
        (folder / "dvc.yaml").write_text(
            "stages:\n  data:\n    cmd: test -d data\n    outs:\n      - data:\n          persist: true\n"
        )
        ok(folder, "dvc", "repro", **KEYS)
        ok(folder, "dvc", "push", **KEYS)
        assert bucket.list_objects_v2(Bucket="features")["KeyCount"] == 2  # the array and the list of the folder
        whole = array.read_bytes()
        shutil.rmtree(folder / "data")
        shutil.rmtree(folder / ".dvc/cache")
        ok(folder, "dvc", "pull", **KEYS)
        assert array.read_bytes() == whole
    finally:
        listening.stop()

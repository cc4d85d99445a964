"""MLflow's pages are behind a password; secrets are for the user alone and stand in no file that is pushed."""

import base64
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.reporting.tracking import record, server, store

ROOT = Path(__file__).parents[3]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_for_the_user_alone(tmp_path):
    store = tmp_path / "mlflow.db"
    store.touch(mode=0o644)
    (tmp_path / "mlartifacts").mkdir(mode=0o755)
    first = server.prepare(store)
    private = tmp_path / server.PRIVATE
    password = (private / "password").read_text()
    assert len(password) >= 24
    assert f"admin_password = {password}\n" in Path(first["MLFLOW_AUTH_CONFIG_PATH"]).read_text()
    assert "default_permission = NO_PERMISSIONS" in (private / "basic_auth.ini").read_text()
    assert [mode(private), mode(store), mode(tmp_path / "mlartifacts")] == [0o700, 0o600, 0o700]
    assert {mode(path) for path in private.iterdir()} == {0o600}
    assert server.prepare(store) == first
    assert (private / "password").read_text() == password
    assert password not in " ".join(server.command(store, 5000))


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    with pytest.raises(UserError, match=r"\.mlflow: belongs to another user"):
        server.prepare(tmp_path / "mlflow.db")


def test_a_store_that_is_made_is_for_the_user_alone(tmp_path, monkeypatch):
    """MLflow locks `db_init_lock-HASH` in the folder for temporary files, and waits for ever where another holds it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    assert record.init_store(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert not [*shared.iterdir()]
    assert tempfile.gettempdir() == str(shared)
    assert server.prepare(tmp_path / "new" / "mlflow.db")["TMPDIR"] == str(tmp_path / "new" / server.PRIVATE)
    assert mode(tmp_path / "new" / "mlflow.db") == 0o600
    assert mode(tmp_path / "new" / "mlartifacts") == 0o700


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://me:pass@word@host:5432/runs", "postgresql://me:***@host:5432/runs"),
        ("https://me:secret@host", "https://me:***@host"),
        ("cannot reach https://a:b@host/x: refused", "cannot reach https://a:***@host/x: refused"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://host:5000/x@y", "http://host:5000/x@y"),
        ("http://u:pa/ss@h/x", "http://u:***@h/x"),
        ("http://u:p@ss@h/x", "http://u:***@h/x"),
        ("https://abcdefghijklmnopqrstuvwxyz@h/x", "https://***@h/x"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("http://h/?access_TOKEN=p", "http://h/?access_TOKEN=***"),
    ],
)
def test_passwords_of_addresses_are_masked(text, told):
    assert store.masked(text) == told


def test_a_store_that_is_down_tells_no_password(caplog, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not record.init_store("ftp://me:secret@host/runs")
    assert "***@host" in caplog.text
    assert "secret" not in caplog.text


def test_clean_expands_no_file_name_and_keeps_what_is_not_made(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for folder in ("src", "results/x; rm -rf src; echo", "results/ src", "results/.hidden", "data", "logs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "results" / "README.md").touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "results", "src"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["README.md"]


PUBLIC = {"/health", "/version", "/static-files/<path:path>"}  # the pages' own scripts, and whether it is up


def requests_of_all_routes(store):
    """The path, no password, the body and the method of a request to each route of MLflow but the public ones."""
    listing = (
        "import json, mlflow.server as s, mlflow.server.auth as a, mlflow.server.fastapi_app as f; a.create_app();"
        "print(json.dumps([(r.rule, [*r.methods]) for r in s.app.url_map.iter_rules()]"
        "+ [(c.path, [*c.methods]) for r in f.app.routes if hasattr(r, 'effective_candidates')"
        "   for c in r.effective_candidates()]))"
    )
    environment = {**os.environ, **server.prepare(store), "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{store}"}
    out = subprocess.run([sys.executable, "-c", listing], env=environment, capture_output=True, text=True, check=True)
    routes = json.loads(out.stdout.splitlines()[-1])
    assert len(routes) > 300
    return [
        (re.sub(r"<[^>]*>|\{[^}]*\}", "1", rule), None, None if method == "GET" else b"{}", method)
        for rule, methods in routes
        if rule not in PUBLIC and not rule.endswith("/mlflow/server-info")
        for method in methods
        if method not in ("HEAD", "OPTIONS")
    ]


@pytest.mark.slow
def test_nothing_is_served_without_the_password(tmp_path):
    pytest.importorskip("flask_wtf", reason="mlflow's part for authentication is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "crossmodal.reporting.tracking.server", f"sqlite:///{tmp_path}/mlflow.db", str(port)]

    def ask(path, password=None, body=None, method=None, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
        if password:
            request.add_header("Authorization", "Basic " + base64.b64encode(f"crossmodal:{password}".encode()).decode())
        if body:
            request.add_header("Content-Type", "application/json")
        try:
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as error:
            return error.code

    with (tmp_path / "log").open("w") as log, subprocess.Popen(line, cwd=tmp_path, stdout=log, stderr=log) as process:
        try:
            for _ in range(120):
                try:
                    ask("/health")
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            search = ("/api/2.0/mlflow/experiments/search", b'{"max_results": 5}')
            password = (tmp_path / server.PRIVATE / "password").read_text()
            assert ask(search[0], None, search[1]) == 401
            assert ask(search[0], "wrong", search[1]) == 401
            assert ask("/get-artifact?path=x&run_id=y") == 401
            assert ask("/api/2.0/mlflow/runs/create", None, b'{"experiment_id": "0"}') == 401
            assert ask(search[0], password, search[1]) == 200
            native = "/ajax-api/3.0/mlflow/assistant/config"  # not one of Flask's
            for origin, status in ((f"http://127.0.0.1:{port}", 200), ("http://127.0.0.1:1", 403), ("null", 403)):
                assert ask(search[0], password, search[1], Origin=origin) == status
                assert ask(native, password, Origin=origin) == status
            assert ask(native, password, Host=f"localhost:{port}") == 200
            assert ask(native, password, Host="10.stranger.example") == 403
            assert {ask(*request) for request in requests_of_all_routes(tmp_path / "mlflow.db")} == {401}
            assert mode(tmp_path / "mlflow.db") == 0o600
            assert password not in (tmp_path / "log").read_text()
        finally:
            process.terminate()

"""Serves MLflow's pages to a single user of this machine, with a password that is generated at the first start.

MLflow's interface reads and writes the files of whoever serves it, and a port of 127.0.0.1 is open to every account of
the machine. `python -m crossmodal.reporting.tracking.server` is what `make ui` calls.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_text
from crossmodal.reporting.tracking.store import database, quiet

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.datastructures import Authorization

USER = "crossmodal"
HOSTS = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*")  # by default also 10.any.name, a stranger's site
PRIVATE = ".mlflow"  # beside the store: password, key of the sessions, and MLflow's own users


def prepare(store: Path) -> dict[str, str]:
    """The environment variables for MLflow's server; its private files are created for this user alone if missing.

    Parameters
    ----------
    store : the database of the runs; `mlartifacts` beside it holds their files.

    Raises
    ------
    UserError : a private folder or file belongs to someone else.
    """
    folder = store.absolute().parent / PRIVATE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock(folder, 0o700)
    password, key = (_kept(folder / name) for name in ("password", "key"))
    settings = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": f"sqlite:///{folder / 'users.db'}",
        "admin_username": USER,
        "admin_password": password,
        "authorization_function": "crossmodal.reporting.tracking.server:authenticate",
    }
    lines = ["[mlflow]", *(f"{name} = {value.replace('%', '%%')}" for name, value in settings.items())]
    _write(folder / "basic_auth.ini", "\n".join(lines) + "\n")
    for path, mode in ((store, 0o600), (store.absolute().parent / "mlartifacts", 0o700)):
        if path.exists():
            lock(path, mode)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
        "TMPDIR": str(folder),  # MLflow's lock has a known name, which in /tmp any account could hold
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(HOSTS),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that nothing here needs
    }


def authenticate() -> Authorization | Response:
    """MLflow's check of a request's password, which no page of another address may have the browser send.

    MLflow lets the pages of every port of this machine use the password that a browser remembers, and on a shared
    machine the port may be another user's.
    """
    from flask import make_response, request
    from mlflow.server.auth import authenticate_request_basic_auth

    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
        return make_response("the request comes from a page of another address", 403)
    return authenticate_request_basic_auth()


def lock(path: Path, mode: int) -> None:
    """Set the permissions of a file or folder so that other users have none.

    Raises
    ------
    UserError : it belongs to another user.
    """
    try:
        if path.stat().st_uid != os.getuid():
            raise UserError(f"{path}: belongs to another user; remove it, or serve a store of your own")
        path.chmod(mode)
    except OSError as error:
        raise UserError(f"{path}: cannot be made private ({error.strerror}); choose another folder") from None


def _kept(path: Path) -> str:
    """A secret that is generated once and kept in a file."""
    if not path.exists():
        _write(path, secrets.token_urlsafe(24))
    lock(path, 0o600)
    return path.read_text(encoding="utf-8").strip()


def _write(path: Path, text: str) -> None:
    before = os.umask(0o077)
    try:
        write_text(path, text)
    finally:
        os.umask(before)


def command(store: Path, port: int) -> list[str]:
    """The command line of MLflow's server with basic authentication, which listens on this machine alone."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address),
        *("--backend-store-uri", f"sqlite:///{store}"),
    ]


def main(arguments: list[str]) -> None:
    """Serve the store of the first argument (`sqlite:///mlflow.db`) on the port of the second (5000)."""
    uri, port, *_ = [*arguments, *("sqlite:///mlflow.db", "5000")[len(arguments) :]]
    store = database(uri)
    if store is None or not port.isdigit():
        raise UserError(f"{uri} on port {port}: expected sqlite:///FILE.db and a number; a server serves itself")
    quiet()
    environment = prepare(store)
    os.umask(0o077)
    print(f"open http://127.0.0.1:{port} and choose Model training at the top left, which it remembers")
    print(f"user {USER}, password in {store.absolute().parent / PRIVATE / 'password'}", flush=True)
    line = command(store, int(port))
    os.execve(line[0], line, {**os.environ, **environment})


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")

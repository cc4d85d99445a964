"""MLflow's pages for one user alone: on this machine, behind a password that is made at the first start.

MLflow's interface reads and writes the files of whoever serves it, and a port of 127.0.0.1 is open to every account of
the machine. `python -m crossmodal.reporting.tracking.server` is what `make ui` calls.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from crossmodal.errors import UserError
from crossmodal.files import write_text
from crossmodal.reporting.tracking.store import database, quiet

USER = "crossmodal"
PRIVATE = ".mlflow"  # beside the store: password, key of the sessions, and MLflow's own users


def prepare(store: Path) -> dict[str, str]:
    """What MLflow is told in its environment; made where it is not there yet, for the user's eyes alone.

    Parameters
    ----------
    store : the database of the runs; `mlartifacts` beside it holds their files.

    Raises
    ------
    UserError : a private folder or file that belongs to someone else.
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
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    lines = ["[mlflow]", *(f"{name} = {value.replace('%', '%%')}" for name, value in settings.items())]
    _write(folder / "basic_auth.ini", "\n".join(lines) + "\n")
    for path, mode in ((store, 0o600), (store.absolute().parent / "mlartifacts", 0o700)):
        if path.exists():
            lock(path, mode)
    return {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": key}


def lock(path: Path, mode: int) -> None:
    """Take everyone else's permissions of a file or folder away.

    Raises
    ------
    UserError : it is another user's.
    """
    try:
        if path.stat().st_uid != os.getuid():
            raise UserError(f"{path}: belongs to another user; remove it, or serve a store of your own")
        path.chmod(mode)
    except OSError as error:
        raise UserError(f"{path}: cannot be made private ({error.strerror}); choose another folder") from None


def _kept(path: Path) -> str:
    """A secret that is made once."""
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
    """MLflow's server, with basic authentication, for this machine alone."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address),
        *("--backend-store-uri", f"sqlite:///{store}"),
    ]


def main(arguments: list[str]) -> None:
    """Serve `sqlite:///mlflow.db`, or the store of the first argument, on port 5000, or that of the second."""
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

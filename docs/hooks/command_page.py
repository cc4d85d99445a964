"""The page of the command line, written from the commands themselves: each with its arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from crossmodal.cli import app

PAGE = "reference/commands.md"


def on_config(config: MkDocsConfig) -> None:
    (entry,) = (entry for entry in config.nav if "Reference" in entry)
    entry["Reference"].insert(1, {"Command line": PAGE})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    group = typer.main.get_command(app)
    parts = ["# Command line", _text(group.help), "The options of all commands, given before the command's name:"]
    parts += [_parameters(group), _text(group.epilog)]
    parts += [_command(f"crossmodal {name}", command) for name, command in commands(group)]
    return "\n\n".join(part for part in parts if part) + "\n"


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Each command by its name, those of a group after the group's name."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _command(name: str, command: click.Command) -> str:
    words = [one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([name, "[OPTIONS]", *words])
    parts = [f"## {name}", f"```text\n{usage}\n```", _text(command.help), _parameters(command)]
    return "\n\n".join(part for part in parts if part)


def _parameters(command: click.Command) -> str:
    rows = []
    for one in command.params:
        if isinstance(one, click.Option):
            names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
            default = one.default if isinstance(one.default, str | int) and not isinstance(one.default, bool) else ""
        else:
            names, default = f"`{one.make_metavar(click.Context(command))}`", ""
        default = f"`{default}`" if default not in ("", None) else ""
        rows.append(f"| {names} | {_text(getattr(one, 'help', None))} | {default} |")
    return "\n".join(["| | | default |", "|---|---|---|", *rows]) if rows else ""


def _text(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text or "").strip()).replace("|", "\\|")

"""The page of the command line, written from the commands themselves: each with its arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Each command of a group by its name, those of a group within it after that group's name."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _command(name: str, command: Any) -> str:
    words = [_metavar(one) for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *words])
    parts = [f"## {name}", f"```text\n{usage}\n```", _text(command.help), _parameters(command)]
    return "\n\n".join(part for part in parts if part)


def _parameters(command: Any) -> str:
    rows = []
    for one in command.params:
        if one.param_type_name == "argument":
            names = f"`{_metavar(one)}`"
        else:
            names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
        shown = one.default is not None and not isinstance(one.default, bool) and str(one.default) != ""
        rows.append(f"| {names} | {_text(one.help)} | {f'`{one.default}`' if shown else ''} |")
    return "\n".join(["| option or argument | meaning | default |", "|---|---|---|", *rows]) if rows else ""


def _metavar(argument: Any) -> str:
    return argument.metavar or (argument.name.upper() if argument.required else f"[{argument.name.upper()}]")


def _text(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text or "").strip()).replace("|", "\\|")

"""A griffe extension that turns docstrings into Markdown and shows the descriptions of pydantic's fields.

The docstrings have NumPy's headings (`Parameters`, `Returns`, `Raises`) over entries of the form `name : text`, and
doctests as examples. Both become Markdown here, so that no parser takes the text of an entry for a type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import griffe

HEADINGS = ("Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "Examples", "References")
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Docstrings(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for member in _members(pkg):
            if member.is_attribute and member.value is not None:
                _show_field(member)
            if member.docstring is not None:
                member.docstring.value = markdown(member.docstring.value)


def _members(parent: griffe.Object) -> Iterator[griffe.Object]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _members(member)


def _show_field(attribute: griffe.Attribute) -> None:
    """Give an attribute that is set to pydantic's `Field(...)` its default as value, its description as docstring."""
    call = ast.parse(str(attribute.value), mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field"):
        return
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    default = call.args[0] if call.args else options.get("default")
    attribute.value = ast.unparse(default) if default is not None else None
    bounds = [f"{word} {ast.unparse(options[key])}" for key, word in BOUNDS.items() if key in options]
    texts = [_words(options["description"])] if "description" in options else []
    texts += [f"({', '.join(bounds)})"] if bounds else []
    if attribute.docstring is None:
        attribute.docstring = griffe.Docstring(" ".join(texts), parent=attribute)


def _words(node: ast.expr) -> str:
    """The text of a description; what is no literal in it stands as its source."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_words, node.values))
    if isinstance(node, ast.FormattedValue):
        return _words(node.value)
    return f"`{ast.unparse(node)}`"


def escaped(text: str) -> str:
    """Text in which `<` begins no element of HTML, except for what stands between backticks.

    >>> escaped("rare words become <unk>, as `<pad>` is")
    'rare words become &lt;unk>, as `<pad>` is'
    """
    return re.sub(r"(`+)(.*?)\1|<", lambda found: found[0] if found[1] else "&lt;", text, flags=re.DOTALL)


def markdown(text: str) -> str:
    """A docstring as Markdown: headings with bold type, entries as a list, doctests as code.

    >>> print(markdown("Rank.\\n\\nRaises\\n------\\nValueError : shapes that\\n    do not fit"))
    Rank.
    <BLANKLINE>
    **Raises**
    <BLANKLINE>
    - `ValueError`: shapes that do not fit
    """
    parts = re.split(rf"^({'|'.join(HEADINGS)})\n-+\n", text, flags=re.MULTILINE)
    result = [_with_code(parts[0].strip())]
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        entries = heading in ("Parameters", "Raises", "Attributes", "Returns", "Yields")
        result += [f"**{heading}**", _entries(body) if entries else _with_code(body.strip())]
    return "\n\n".join(part for part in result if part)


def _entries(body: str) -> str:
    """`name : text` per line, its text going on in the lines that follow, as a list; other text as it is."""
    lines: list[str] = []
    for line in body.strip("\n").splitlines():
        name, colon, text = line.partition(" : ")
        if colon and re.fullmatch(r"[*\w.]+(, [*\w.]+)*", name):
            lines.append(f"- `{name}`: {text}")
        elif lines and line.strip():
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.strip())
    return escaped("\n".join(lines))


def _with_code(text: str) -> str:
    """Doctests within fences, the text between them escaped."""
    parts = re.split(r"^( *>>> .*(?:\n(?! *$).*)*)", text, flags=re.MULTILINE)
    return "".join(f"```python\n{part}\n```" if n % 2 else escaped(part) for n, part in enumerate(parts))

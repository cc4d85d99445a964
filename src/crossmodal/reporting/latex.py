"""A table for a LaTeX document, as booktabs sets it; it compiles as it stands, with `\\usepackage{booktabs}` alone."""

from __future__ import annotations

from crossmodal.reporting.views import Text, View, grid, title

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "“": "``",
    "”": "''",
    "×": r"$\times$",
}


def tex(text: str) -> str:
    """`text` with everything that LaTeX would read as a command written out."""
    return "".join(_TEX.get(character, character) for character in text)


LONG = 14  # characters of a remark that stays in its row; longer ones go below the table
MANY = 8  # columns of numbers, beyond which type is smaller and closer


def _cell(cell: Text) -> str:
    return {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.place, "%s") % tex(cell.text)


def to_tex(view: View) -> str:
    """A booktabs table; needs `\\usepackage{booktabs}` alone."""
    n_left, n_numbers = 2 + len(view.extras), len(view.columns)
    width = n_left + n_numbers + 1
    lines = [
        "% Needs \\usepackage{booktabs}.",
        r"\begin{table}",
        r"  \centering",
        r"  \small" if n_numbers <= MANY else r"  \scriptsize\setlength{\tabcolsep}{2.5pt}",
        "  \\caption{" + tex(" ".join([f"{view.table.title}.", *(text for _, text in view.caption)])) + "}",
        "  \\label{tab:" + view.id + "}",
        "  \\begin{tabular}{" + "l" * n_left + "r" * n_numbers + "l}",
        r"    \toprule",
    ]
    for level, spans in enumerate(view.heads):
        last = level == len(view.heads) - 1
        left = ["Method", *(title(key) for key in view.extras), ""] if last else [""] * n_left
        cells = [tex(text) if n == 1 else f"\\multicolumn{{{n}}}{{c}}{{{tex(text)}}}" for text, n in spans]
        lines.append("    " + " & ".join([*map(tex, left), *cells, ""]).rstrip() + r" \\")
        if not last:
            start, rules = n_left + 1, []
            for _, n in spans:
                rules.append(f"\\cmidrule(lr){{{start}-{start + n - 1}}}")
                start += n
            lines.append("    " + " ".join(rules))
    lines.append(r"    \midrule")
    opened = False
    remarks: dict[str, str] = {}
    for row in grid(view):
        if isinstance(row, str):
            if opened:
                lines.append(r"    \addlinespace")
            lines.append(f"    \\multicolumn{{{width}}}{{l}}{{\\emph{{{tex(row)}}}}} \\\\")
        else:
            *cells, remark = row
            if len(remark.text) > LONG:
                remark = Text(f"[{remarks.setdefault(remark.text, str(len(remarks) + 1))}]")
            lines.append("    " + " & ".join(map(_cell, [*cells, remark])).rstrip() + r" \\")
        opened = True
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    notes = [*((f"({mark})", text) for mark, text in view.notes), *((f"[{n}]", text) for text, n in remarks.items())]
    if notes:
        said = "; ".join(f"{mark} {text}" for mark, text in notes)
        lines += ["  \\par\\smallskip", "  {\\footnotesize " + tex(said) + ".}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"

"""One odd name, caption or file never ends a report, and is shown as it is: no formula, markup, command or comment."""

import base64
import io
import json
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from crossmodal.core.errors import printable
from crossmodal.inference.description import Described, Descriptions
from crossmodal.inference.search import Answer, Found, Query
from crossmodal.reporting.figures import canvas
from crossmodal.reporting.page import descriptions, search_results, thumbnails
from crossmodal.reporting.tables import latex, verdicts, writers


def test_dollars_are_dollars_and_powers_stay_powers():
    with canvas.style():
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([1, 10, 100], [1, 2, 3], label="costs $5 and $x_{ more")
        axes.set_xscale("log")
        axes.set_title("$\\frac{a$ and $\\nothing$")
        axes.set_yticks([1, 2], ["$a_{$", "b"])
        axes.legend()
        text = canvas.svg(figure)
    for words in ("costs $5 and $x_{ more", "$\\frac{a$ and $\\nothing$", "$a_{$"):
        assert words in text
    assert "mathdefault" not in re.sub("<!--.*?-->", "", text)  # 10 to a power is set as one


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "\x1b]8;;http://host\x07link", "a\x9bm", "\u202eright to left", "a\x00b"]
)
def test_a_terminal_is_told_no_commands(text):
    told = printable(text)
    assert told.isprintable()
    assert len(told) == len(text)
    assert printable("größer 画 😀 [bold]") == "größer 画 😀 [bold]"
    assert printable("a\tb\nc") == "a b c"


@pytest.mark.parametrize("terminal", [True, False])
def test_captions_that_look_like_markup_or_commands_are_shown(capsys, monkeypatch, terminal):
    odd = ["[/red] closes nothing", "[link=http://host]x[/link]", "\x1b[2Jgone", "a\tb\nc"]
    found = Found("run", Query("text", "[/b]"), "text", 4, [Answer(f"t{n}", "text", 0.5, t) for n, t in enumerate(odd)])
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    search_results.show(found)
    told = capsys.readouterr().out
    assert "[/red] closes nothing" in told
    assert "[link=http://host]x[/link]" in told
    assert "\x1b[2J" not in told
    if not terminal:
        assert [len(line.split("\t")) for line in told.splitlines()] == [4] * 4


ODD = "\x1b[2J\x9b31m\u202ea\nb\udcff é😀"  # commands, text that runs back, a line, a byte that is no UTF-8


@pytest.mark.parametrize("module", [search_results, descriptions])
def test_json_with_odd_names_is_printable_and_says_what_it_said(capsys, module):
    found = Found("run", Query("image", ODD), "image", 1, [Answer(ODD, "image", 0.5, ODD)])
    described = Descriptions("run", 1, [Described(ODD, ["a"])])
    module.show({search_results: found, descriptions: described}[module], as_json=True)
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    assert "é😀" in told
    read = json.loads(told)
    assert (read["query"] if module is search_results else read["pictures"][0])["source"] == ODD


def test_pages_of_files_with_odd_names_are_written(tmp_path, monkeypatch):
    """Linux lets any bytes be a name, which Python reads as halves of characters that no file of text can hold."""
    monkeypatch.setattr(thumbnails.log, "disabled", True)  # what is logged is kept raw, and passed on between processes
    search_results.write(
        Found("run", Query("image", ODD), "image", 1, [Answer(ODD, "image", 0.5, ODD)]), tmp_path / "s"
    )
    descriptions.write(Descriptions("run", 1, [Described(ODD, ["a"])]), tmp_path / "d")
    for name in "sd":
        page = (tmp_path / name).read_text()
        assert "\N{REPLACEMENT CHARACTER}a b\N{REPLACEMENT CHARACTER} é😀" in page
        assert not {"\x1b", "\x9b", "\u202e"} & {*page}


def test_a_spreadsheet_computes_nothing():
    texts = ["=1+1", "+cmd", "@SUM(1)", "-cmd|x", "-(1)", "\t=1", "plain", "-3.5", "-", "a=b"]
    guarded = [f"'{text}" for text in texts[:6]] + texts[6:]
    assert [writers.no_formula(text) for text in texts] == guarded
    assert writers.no_formula(-1.5) == -1.5
    records = [{"row": "=1+1", "value": -1.0, "n": 3}, {"row": "a, b", "value": None, "n": None}]
    assert writers.csv_of(["row", "value", "n"], records) == 'row,value,n\n\'=1+1,-1.0,3\n"a, b",,\n'


def test_a_blank_line_does_not_end_a_caption():
    assert latex.tex("one\n\n  two % of $x$") == r"one two \% of \$x\$"


def test_the_comment_of_a_photograph_is_left_behind(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "x.jpg", comment=b"where I live")
    picture = thumbnails.medium(tmp_path / "x.jpg", "image").picture
    data = base64.b64decode(picture.partition(",")[2])
    assert b"where I live" in (tmp_path / "x.jpg").read_bytes()
    assert b"where I live" not in data
    assert Image.open(io.BytesIO(data)).size == (112, 112)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), KeyError("a"), OverflowError("large")])
def test_whatever_a_small_copy_raises_ends_no_page(tmp_path, monkeypatch, error, caplog):
    def failing(path):
        raise error

    monkeypatch.setattr(thumbnails, "_film", failing)
    assert thumbnails.medium(tmp_path / "x.mp4", "video") == thumbnails.Medium()
    assert "no thumbnail" in caplog.text


@pytest.mark.parametrize("text", ["-1+cmd|' /C calc'!A1", "-2-SUM(A1)", "\n=1+1", "\uff1d1+1", "-.x"])
def test_texts_that_begin_as_a_number_are_formulas_too(text):
    assert writers.no_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.5", "-3", "-.5e-3", "-", "- a list", "a-1"])
def test_numbers_and_dashes_are_none(text):
    assert writers.no_formula(text) == text


def test_claims_of_others_are_no_formulas():
    frame = pd.DataFrame({"paper": ["x"], "says": ['=HYPERLINK("http://x")'], "value": [-1.5]})
    assert verdicts.to_csv(frame) == 'paper,says,value\nx,"\'=HYPERLINK(""http://x"")",-1.5\n'

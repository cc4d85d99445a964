"""Pages fetch and send nothing and run no script but their own; figures of others are not put into them."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from markupsafe import Markup

from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.page import sections
from crossmodal.reporting.tables import writers
from crossmodal.reporting.tables.writers import environment

OURS = (
    '<?xml version="1.0"?>\n<svg width="9" height="9" xmlns="x"><style>*{a:b}</style><use xlink:href="#m"/>%s</svg>\n'
)


@pytest.fixture
def scope(plan: Plan, tmp_path: Path) -> base.Scope:
    (tmp_path / "figures").mkdir()
    return base.Scope(plan, plan.jobs, str(tmp_path))


def test_a_policy_names_the_one_script_by_its_hash():
    expected = base64.b64encode(hashlib.sha256(b"let a = 1\n").digest()).decode()
    assert f"script-src 'sha256-{expected}';" in writers.policy("let a = 1\n")
    assert "script-src 'none'" in writers.policy()


def test_every_template_of_a_page_has_a_policy():
    folder = writers.environment().loader.searchpath[0]
    pages = [path for path in sorted(Path(folder).glob("*.j2")) if "<!doctype" in path.read_text()]
    assert len(pages) == 4
    for path in pages:
        text = path.read_text()
        assert re.search(r"<head>\s*<meta charset=.utf-8.>\s*\{\{ policy\((script)?\) \}\}", text), path
        assert not re.search(r"<\w[^>]* on\w+=", text), path


@pytest.mark.parametrize(
    "part",
    [
        "<script>x</script>",
        '<g onload="x"/>',
        "<foreignObject/>",
        '<image href="https://host/x.png"/>',
        "<a/>",
        '<animate attributeName="href"/>',
        "<style>@import 'x'</style>",
        '<g style="fill: url(http://host)"/>',
        "</svg><p>",
    ],
)
def test_a_figure_that_was_not_drawn_here_is_left_out(scope, part, caplog):
    with pytest.raises(UserError, match="was not drawn here"):
        sections.inline(OURS % part, "Loss")
    (scope.target / "figures" / "annotation.svg").write_text(OURS % part)
    assert sections.drawn(scope) == []
    assert "annotation.svg" in caplog.text


def test_a_figure_of_ours_is_taken(scope):
    text = '<text>one = 2, see href=x on page=3</text><image href="data:image/png;base64,AA"/><g clip-path="url(#p)"/>'
    text = text.replace("href=x ", "")
    assert sections.inline(OURS % text, "Loss").startswith('<svg class="figure" role="img" aria-label="Loss"')
    (scope.target / "figures" / "annotation.svg").write_text(OURS % text)
    assert [one["id"] for one in sections.drawn(scope)] == ["annotation"]


def test_no_value_in_a_page_commands_a_terminal():
    """Captions of others in a report did, for whoever looked at it with `cat`."""
    page = environment().from_string("<b>{{ text }}</b>{{ made }}{{ 5 }}")
    made = page.render(text="a\x1b[31m\u202e\n\tb <i> \x00", made=Markup("<i>\n</i>"))
    assert made == "<b>a\ufffd[31m\ufffd\n\tb &lt;i&gt; \ufffd</b><i>\n</i>5"

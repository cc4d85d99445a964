"""The documentation is built strictly, fetches nothing when it is looked at, and shows what papers and modules hold."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import re
import tomllib
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from crossmodal.core import registry
from tests.docs.documents import FILES, HOOKS, ROOT

# Pages that the build writes.
WRITTEN = r"(\.\./)*((papers|reference|results)/|(contributing|changelog|security|speed)\.md)"
build = pytest.importorskip("mkdocs.commands.build", reason="mkdocs is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning, such as a dead link or anchor, ends the build."""
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("docs") / "site"
    with contextlib.chdir(ROOT):
        config = load_config("mkdocs.yml", site_dir=str(folder), strict=True)
        build.build(config)
    return folder


class Sources(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "video", "audio", "source", "object", "embed"):
            self.found += [values[key] for key in ("src", "data") if values.get(key)]
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values["href"])


def test_nothing_is_fetched_from_elsewhere(site):
    pages = [*site.rglob("*.html")]
    for page in pages:
        sources = Sources()
        sources.feed(page.read_text(encoding="utf-8"))
        assert [one for one in sources.found if re.match(r"(https?:)?//", one)] == [], page
        folder = site if page.name == "404.html" else page.parent  # the server's own page, from its root
        assert all((folder / one.lstrip("/")).exists() for one in sources.found), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_every_module_has_a_page(site):
    source = ROOT / "src" / "crossmodal"
    modules = [path for path in source.rglob("*.py") if not path.stem.startswith("_")]
    pages = [site / "reference" / path.relative_to(source).with_suffix(".html") for path in modules]
    assert [page for page in pages if not page.is_file()] == []
    texts = [page.read_text(encoding="utf-8") for page in pages]
    (scan,) = [text for text in texts if 'id="crossmodal.models.scan.Model"' in text]
    assert "stacked cross attention" in scan
    # Entries of a docstring are a list, and a pydantic field shows its default and its description.
    assert any("<li><code>NoRelevantItemError</code>: " in text for text in texts)
    assert re.search(r"dimensions of the common space \(at least 1\)", scan)


def test_a_paper_has_its_deviations_claims_and_settings(site):
    page = text_of(site / "papers" / "a3vse.html")
    facts = yaml.safe_load((ROOT / "papers" / "a3vse.yaml").read_text(encoding="utf-8"))
    assert all(" ".join(claim["says"].split()) in page for claim in facts["claims"])
    differs = {row["differs"] for table in facts["tables"] for row in table["rows"] if "differs" in row}
    assert len(differs) > 3
    assert all(" ".join(text[1:].split()) in page for text in differs)
    assert "Where the tables contradict themselves (23,200 pairs where 29,000 would follow)" in page
    assert (site / "papers" / "flickr8k.html").exists()
    assert not (site / "papers" / "csv.html").exists()  # of a data set that only its overlay brings
    rows = facts["tables"][0]["rows"]
    assert f"{sum('experiment' in row for row in rows)} of {len(rows)}" in page
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    drawn = settings["datasets"]["scenes"]["models"]["a3vse"]["epochs"]
    published = registry.module("models", "a3vse").Settings().epochs
    assert re.search(rf"epochs {published} {drawn}\b", page)


def test_the_measurements_and_commands_are_there(site):
    speed = text_of(site / "speed.html")
    assert "Ranks and average precision against the bare float32 product" in speed
    assert re.search(r"All claims of all papers on a full plan \d+\.\d s", speed)
    commands = text_of(site / "reference" / "commands.html")
    assert "crossmodal features prune" in commands
    assert re.search(r"--partition Items that are searched: .* test ", commands)


def text_of(page: Path) -> str:
    """What a page shows, with single blanks."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"</?(code|em|a|span)\b[^>]*>", "", text)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.fixture
def page(browser, site) -> Iterator:
    """The first page, from the disk; nothing but files may be asked for, and nothing said on the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("data:", site.as_uri())) or said.append(request.url))
    page.goto((site / "index.html").as_uri())
    yield page
    context.close()
    assert said == []


def test_a_word_is_found_without_a_server(page):
    page.click(".md-search__input")
    page.keyboard.type("permutation")
    page.wait_for_selector(".md-search-result__item")
    links = [link.get_attribute("href") for link in page.locator(".md-search-result__link").all()]
    assert any("permutation_test" in link and "reference/evaluation" in link for link in links)


@pytest.mark.parametrize("name", ["index", "concepts", "papers/cvs", "speed", "reference/commands"])
def test_a_narrow_screen_shows_all_of_it(page, site, name):
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_the_hooks_examples_hold():
    for path in sorted(HOOKS.glob("*.py")):
        outcome = doctest.testmod(importlib.import_module(path.stem))
        assert outcome.failed == 0, path


def test_links_between_documents_lead_to_files():
    """As whoever reads them in the repository follows them; the site's own links are the strict build's."""
    for path in FILES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            written = re.match(WRITTEN, target)
            if not target.startswith("http") and not (written and path.is_relative_to(ROOT / "docs")):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_the_readme_is_a_screen_and_a_half():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", project["version"])
    dois = {yaml.safe_load(path.read_text(encoding="utf-8")).get("doi") for path in ROOT.glob("papers/*.yaml")}
    assert {one["doi"] for one in citation["references"] if "doi" in one} <= dois

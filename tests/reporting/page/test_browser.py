"""The page in headless Chromium: sorting, filters, curves, heat maps and galleries, by pointer and by key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from crossmodal.experiments import Plan
from crossmodal.reporting.page import report
from crossmodal.reporting.results import collect

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
MODALITIES = ("image", "text", "audio", "video", "mesh")


@pytest.fixture(scope="module")
def address(browser: sync_api.Browser, made: Path, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the made-up results, one of its runs tested in all directions between five modalities."""
    scope = tmp_path_factory.mktemp("scope")
    for name in ("comparison.parquet", "annotation_efficiency.csv"):
        shutil.copy(made / name, scope)
    metrics = pd.read_parquet(made / "metrics.parquet")
    one = metrics[(metrics.model == "vse0") & (metrics.seed == 0)].iloc[[0]]
    directions = [f"{query}-to-{gallery}" for query, gallery in permutations(MODALITIES, 2)]
    rows = [one.assign(aspect=d, metric="map@50", value=10.0 + i) for i, d in enumerate(directions)]
    pd.concat([metrics, *rows], ignore_index=True).to_parquet(scope / "metrics.parquet")
    report.render(plan, made, made.parent / "data", scope / "report.html")
    return (scope / "report.html").as_uri()


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    """The page, which must say nothing on its console and ask for nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: request.url.startswith("data:") or said.append(request.url))
    page.goto(address)
    page.wait_for_selector("#board tbody tr")
    yield page
    context.close()
    assert said == [address]


def column(page: sync_api.Page, rows: str, place: int) -> list[str]:
    return [text.split(" ±")[0] for text in page.locator(f"{rows} > :nth-child({place})").all_inner_texts()]


def heads(page: sync_api.Page) -> list[str]:
    return [text.replace("\n", " ") for text in page.locator("#board thead th").all_inner_texts()]


def test_a_column_sorts_the_board(page: sync_api.Page) -> None:
    place = heads(page).index("text→image R@5") + 1
    head = page.locator(f"#board thead th:nth-child({place})")
    for order in ("descending", "ascending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        found = [float(value) for value in column(page, "#board tbody tr", place)]
        assert len(found) == 5
        assert found == sorted(found, reverse=order == "descending")
    assert page.locator("#board th[aria-sort]").count() == 1
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_filters_leave_what_was_asked_for(page: sync_api.Page) -> None:
    board = page.locator("#board")
    assert "5 of 8 rows" in board.get_by_role("status").inner_text()
    board.get_by_label("Annotation").select_option("")
    assert board.locator("tbody tr").count() == 8
    assert "cannot be compared" in board.get_by_role("status").inner_text()
    board.get_by_label("Search").fill("VSEPP 50pct")
    assert board.locator("tbody th").all_inner_texts() == ["vsepp"]
    board.get_by_label("Search").fill("nothing of the sort")
    assert "No row answers" in board.locator("tbody").inner_text()
    board.get_by_label("Search").fill("")
    board.get_by_label("controls").uncheck()
    assert board.locator("tbody tr.control").count() == 0
    board.get_by_label("Columns").select_option(label="Image to text")
    assert "median rank" in heads(page)


def test_the_board_shows_means_and_leads_to_runs(page: sync_api.Page, made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet").drop(columns="paper").drop_duplicates()
    own = metrics[(metrics.model == "vse0") & (metrics.metric == "recall_sum")].value
    row = page.locator("#board tbody tr", has=page.locator("th", has_text="vse0"))
    place = heads(page).index("Sum") + 1
    assert row.locator(f":scope > :nth-child({place})").inner_text() == f"{own.mean():.1f} ± {own.std():.1f}"
    row.locator("summary").click()
    links = [link.get_attribute("href") for link in row.get_by_role("link").all()]
    assert [link.split("/runs/")[1] for link in links] == [f"world/full/vse0/seed{seed}/" for seed in (0, 1, 2)]


def test_a_papers_table_sorts_by_our_numbers_and_back(page: sync_api.Page) -> None:
    table = page.locator("#mfsr-table1")
    table.scroll_into_view_if_needed()
    before = table.locator("th.method[scope=row]").all_inner_texts()
    head = table.locator("thead tr:last-child").get_by_role("button").first
    head.click()
    ours = table.locator("tr.ours td[data-c='0']").all()
    values = [float(cell.get_attribute("data-v")) for cell in ours if cell.get_attribute("data-v")]
    assert len(values) >= 1
    assert values == sorted(values, reverse=True)
    after = table.locator("th.method[scope=row]").all_inner_texts()
    assert sorted(after) == sorted(before)
    assert after != before
    assert after[0] == "oracle"
    assert "VSE++" in after[1]
    head.click()
    head.click()
    assert table.locator("th.method[scope=row]").all_inner_texts() == before


def test_runs_are_found_by_words(page: sync_api.Page) -> None:
    search = page.locator("#runs").get_by_label("Search")
    search.fill("vsepp full")
    assert page.locator("#runs-table tbody tr:visible th").all_inner_texts() == ["vsepp", "vsepp.batch24"]
    assert page.locator("#runs-said").inner_text() == "2 of 8 rows"
    search.fill("")
    page.locator("#runs-table").get_by_role("button", name="Time").click()
    assert page.locator("#runs-table th[aria-sort=descending]").inner_text().startswith("Time")


def test_curves_are_read_off_by_key(page: sync_api.Page) -> None:
    chart = page.locator("#chart")
    chart.scroll_into_view_if_needed()
    slider = chart.get_by_role("slider", name="Epoch")
    assert chart.locator("output").inner_text().startswith("Epoch 6")
    assert chart.locator("path.thick").count() == 3
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert chart.locator("output").inner_text().startswith("Epoch 5")
    button = chart.get_by_role("button", name="vse0")
    button.focus()
    page.keyboard.press("Enter")
    assert chart.locator("path.thick").count() == 2
    assert chart.get_by_role("button", name="vse0").get_attribute("aria-pressed") == "false"
    chart.get_by_label("Measure").select_option(label="Loss")
    chart.get_by_label("Annotation").select_option("10pct-1cap")
    assert chart.locator("path.thick").count() == 1


def test_every_direction_has_its_place(page: sync_api.Page) -> None:
    page.locator("#directions").scroll_into_view_if_needed()
    table = page.locator("#heat .map", has_text="vse0").locator("table")
    table.wait_for()
    assert table.locator("thead th").all_inner_texts()[1:] == list(MODALITIES)
    cells = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    values = iter(f"{10 + i:.1f}" for i in range(20))
    assert cells == [["" if q == g else next(values) for g in MODALITIES] for q in MODALITIES]


def test_a_gallery_opens_by_key_and_leads_on(page: sync_api.Page) -> None:
    gallery = page.locator("#galleries")
    page.locator("#gallery").scroll_into_view_if_needed()
    gallery.get_by_label("Direction").select_option("text-to-image")
    button = gallery.get_by_role("button", name="Open query 1 of 6")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.get_by_role("heading").inner_text().startswith("Query 1 of 6")
    answers = dialog.locator("ol.pictures > li:not(.truth)")
    assert answers.count() == 5
    assert dialog.locator("li.true .tick").count() >= 1  # the first query is a hit
    assert answers.first.locator("img").evaluate("image => image.naturalWidth") > 50
    page.keyboard.press("ArrowRight")
    assert dialog.get_by_role("heading").inner_text().startswith("Query 2 of 6")
    dialog.get_by_role("button", name="Previous").click()
    assert dialog.get_by_role("heading").inner_text().startswith("Query 1 of 6")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "open"
    runs = gallery.get_by_label("Run").locator("option").all_inner_texts()
    assert len(runs) == 2
    asked = gallery.locator(".queries .asked")  # the dialog's own is emptied only at its close event
    first = asked.all_inner_texts()
    assert len(first) == 6
    gallery.get_by_label("Run").select_option(label=runs[1])
    assert asked.all_inner_texts() == first


def test_everything_that_is_pressed_has_a_name(page: sync_api.Page) -> None:
    for selector in ("#chart", "#gallery", "#directions"):
        page.locator(selector).scroll_into_view_if_needed()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, a, summary, [role=region], audio, video')]
            .filter(one => !(one.ariaLabel || one.textContent.trim() || (one.labels && one.labels.length)))
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    pictures = page.evaluate("[...document.images].filter(one => !one.alt).length")
    assert pictures == 0


def test_colours_follow_the_button(page: sync_api.Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="dark colours").click()
    assert page.evaluate(background) != light
    page.get_by_role("button", name="light colours").click()
    assert page.evaluate(background) == light


def test_a_narrow_window_scrolls_down_only(page: sync_api.Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    for selector in ("#chart", "#gallery", "#directions"):
        page.locator(selector).scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_a_page_of_no_runs_opens(browser: sync_api.Browser, plan: Plan, tmp_path: Path) -> None:
    collect.write(plan, plan.jobs, tmp_path / "runs", tmp_path)
    report.render(plan, tmp_path, tmp_path / "data", tmp_path / "report.html")
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    assert "No row answers" in page.locator("#board").inner_text()
    assert said == []
    page.close()

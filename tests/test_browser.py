"""Reports and the index as a reader meets them: in a real browser, without a network, on a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from analysis.synthetic_folder import PROVENANCE, SIZES, add_rl, write_folder
from playwright.sync_api import Browser, Page, sync_playwright

from experiments.figures import main

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMMITTED = sorted(path for path in (ROOT / "results").rglob("*.html") if not {"smoke", "store"} & set(path.parts))
PHONE, DESK = 360, 1280
BROKEN = "[...document.images].filter(image => !image.complete || image.naturalWidth === 0).map(image => image.alt)"
SMALL = """[...document.querySelectorAll("body *")]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
  .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML)"""
WIDE = """[...document.querySelectorAll("p, h1, h2, h3, h4, pre, nav, .scroll, .wide, img:not(.wide > img)")]
  .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 200))"""
VISIBLE = (
    '[...document.querySelectorAll("#runs tbody tr")].filter(row => row.checkVisibility()).map(row => row.innerText)'
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.skip("no Chromium on this machine (make browser installs one): no page is looked at")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained results, one with RL, one without training, and the index of them."""
    root = tmp_path_factory.mktemp("results")
    add_rl(write_folder(root / "figure1", sizes=SIZES[:2], seeds=3, prompts=6, points=8))
    ignored = shutil.ignore_patterns("figure_*", "*.html")
    shutil.copytree(ROOT / "results" / "oracle", root / "oracle", ignore=ignored)
    assert main(["--results", str(root)]) == 0
    return root


class Visit:
    """A page that was opened without a network, with all that the browser complained of and asked for."""

    def __init__(self, browser: Browser, path: Path, *, width: int) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 740}, offline=True)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def rows(self) -> list[str]:
        """The runs that are to be seen."""
        return list(self.page.evaluate(VISIBLE))


@pytest.fixture
def visit(browser: Browser) -> Iterator[type[Visit]]:
    """Opens a page; closed again after the test."""
    opened: list[Visit] = []

    def open_page(path: Path, *, width: int = DESK) -> Visit:
        opened.append(Visit(browser, path, width=width))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()


def check(seen: Visit, path: Path) -> None:
    """No complaint, nothing fetched, every image there and described, no scrolling sideways, no tiny text."""
    page = seen.page
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]
    assert page.locator("img").count() > 0 and page.evaluate(BROKEN) == []
    assert all(len(image.get_attribute("alt") or "") > 30 for image in page.locator("img").all())
    assert page.evaluate(WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(SMALL) == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["index.html", "figure1/report.html", "oracle/report.html"])
def test_a_page_is_whole_without_a_network_on_a_phone_and_on_a_desk(visit, results, name, width) -> None:  # type: ignore[no-untyped-def]
    check(visit(results / name, width=width), results / name)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.relative_to(ROOT / "results").as_posix())
def test_a_committed_page_is_whole_on_a_phone(visit, path: Path) -> None:  # type: ignore[no-untyped-def]
    check(visit(path, width=PHONE), path)


def test_a_reader_gets_from_a_series_of_a_figure_to_the_command_that_makes_it(visit, results: Path) -> None:  # type: ignore[no-untyped-def]
    page = visit(results / "index.html").page
    series = page.locator("#figure1-figure_1a .series a")
    assert [link.inner_text() for link in series.all()] == ["2.1k", "4.4k"]
    series.first.click()
    page.wait_for_url("**/figure1/report.html#series-best_of_n-0")
    row = page.locator("tr:has(:target)")
    assert row.inner_text().startswith("2.1k") and row.locator("a", has_text="nonfinite").count() == 1
    row.get_by_text("make them again").click()
    command = page.locator("section:target pre").inner_text()
    assert command.splitlines() == [f"git checkout {PROVENANCE['commit']}", PROVENANCE["command"]]


def test_a_series_links_to_its_own_runs_and_filters_them(visit, results: Path) -> None:  # type: ignore[no-untyped-def]
    seen = visit(results / "figure1" / "report.html")
    page, everything = seen.page, len(seen.rows())
    for optimizer, anchor, count in (("best_of_n", "series-best_of_n-0", 2), ("ppo", "series-ppo-1", 2)):
        row = page.locator(f"tr:has(#{anchor})")
        size = SIZES[int(anchor[-1])]
        for link in row.locator('a[href^="#run-"]').all():
            link.click()
            assert f"-{size}-" in page.locator("tr:target").inner_text()
        row.get_by_text("these runs alone").click()
        assert len(seen.rows()) == count and all(text.startswith(f"{optimizer}-{size}-") for text in seen.rows())
        assert page.locator("#shown").inner_text() == f"{count} shown"
    row.locator('a[href^="#run-"]').first.click()  # a proxy, which the filter hides
    page.locator("tr:target").wait_for(state="visible")  # the page hears of the new address after the click
    assert len(seen.rows()) == everything and page.locator("tr:target").is_visible()


def test_the_index_filters_runs_by_words_and_leads_to_the_row_of_a_run(visit, results: Path) -> None:  # type: ignore[no-untyped-def]
    seen = visit(results / "index.html", width=PHONE)
    everything = seen.rows()
    page, box = seen.page, seen.page.get_by_label("Filter runs")
    box.fill("proxy nonfinite, tilting")
    assert [row.split()[0] for row in seen.rows()] == ["figure1", "oracle"]
    box.fill(" , ")
    assert seen.rows() == everything
    page.locator("h3", has_text="oracle").locator("xpath=following-sibling::p//a[@data-filter]").first.click()
    assert seen.rows() and all(row.startswith("oracle") for row in seen.rows())
    name = page.locator("#runs tbody tr:not([hidden]) a").last.inner_text()
    page.locator("#runs tbody tr:not([hidden]) a").last.click()
    page.wait_for_url("**/oracle/report.html#run-*")
    assert page.locator("tr:target").inner_text().startswith(name)

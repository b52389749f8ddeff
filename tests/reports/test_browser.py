"""The report in a real browser: what is seen, what happens on a click, and what must not happen."""

import time

import pytest
import reports_planted as planted
from screenshots import colours, near, shoot
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pellucid.reports import write_report

pytestmark = pytest.mark.browser
TEAL = (29, 127, 120)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlp") / "report.html"
    write_report(planted.mlp(), planted.mlp_verdicts(), path)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "report.html"
    program = planted.transformer(layers=30, width=72, hidden=96, vocabulary=64)
    write_report(program, [planted.verdict(name) for name in ("program", *program.functions)], path)
    return path


def cell(browser, anchor):
    return browser.driver.find_element(By.CSS_SELECTOR, f'#icicle a[href="#{anchor}"]')


def shown_pages(browser):
    return browser.run(
        "return [...document.querySelectorAll('section.part')].filter(p => p.offsetHeight > 0).map(p => p.id)"
    )


def width_of(browser, anchor):
    return browser.run(
        "return document.querySelector(`#icicle a[href='#${arguments[0]}'] svg`).getBoundingClientRect().width", anchor
    )


def settled(browser, condition):
    for _ in range(50):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_ledger_failures_and_hierarchy_are_visible(browser, mlp):
    browser.open(mlp)
    text = browser.driver.find_element(By.TAG_NAME, "body").text
    assert "digits classifier" in text
    assert (
        text.index("8.4 %") < text.index("91.6 %") < text.index("2 verdicts failed, of 7") < text.index("All 5 parts")
    )
    size = browser.run("return parseFloat(getComputedStyle(document.querySelector('.figure.weights .big')).fontSize)")
    assert size >= 48
    assert browser.complaints() == []
    assert browser.requests() == [mlp.as_uri()]


def test_the_icicle_has_one_visible_cell_for_each_function(browser, large):
    browser.open(large)
    cells = browser.run(
        "return [...document.querySelectorAll('#icicle a.cell')].map(a => [a.getAttribute('href'),"
        " a.querySelector('svg').getBoundingClientRect().width])"
    )
    assert len(cells) == len({href for href, _ in cells}) == 212
    assert min(width for _, width in cells) > 0.1
    assert shown_pages(browser) == ["part/model"]
    assert browser.complaints() == []
    assert browser.requests() == [large.as_uri()]


def test_a_click_zooms_and_opens_the_page(browser, large):
    browser.open(large)
    before = width_of(browser, "part/layers.7")
    cell(browser, "part/layers.7").click()
    assert settled(browser, lambda: width_of(browser, "part/layers.7") > 20 * before)
    assert shown_pages(browser) == ["part/layers.7"]
    assert browser.run("return location.hash") == "#part/layers.7"
    crumbs = browser.driver.find_element(By.CSS_SELECTOR, "section.part.on .crumbs ol").text
    assert crumbs.replace("\n", " ").split() == ["model", "layers.7"]
    cell(browser, "part/layers.7.mlp").click()
    assert settled(browser, lambda: shown_pages(browser) == ["part/layers.7.mlp"])
    browser.driver.back()
    assert settled(browser, lambda: shown_pages(browser) == ["part/layers.7"])
    browser.driver.find_element(By.CSS_SELECTOR, "section.part.on .crumbs a").click()
    assert settled(browser, lambda: width_of(browser, "part/layers.7") < 2 * before)
    assert shown_pages(browser) == ["part/model"]
    assert browser.complaints() == []


def test_zooming_shows_all_that_a_part_calls_and_nothing_else(browser, large):
    browser.open(large)
    for layer in (0, 13, 29):
        browser.run("location.hash = arguments[0]", f"#part/layers.{layer}")
        assert settled(browser, lambda layer=layer: shown_pages(browser) == [f"part/layers.{layer}"])
        seen = browser.run(
            "return [...document.querySelectorAll('#icicle a.cell')]"
            ".filter(a => getComputedStyle(a).visibility === 'visible')"
            ".filter(a => a.querySelector('svg').getBoundingClientRect().width > 1)"
            ".map(a => a.getAttribute('href').slice('#part/'.length))"
        )
        inside = ("norm1", "attention", "residual1", "norm2", "mlp", "residual2")
        assert seen == ["model", f"layers.{layer}", *(f"layers.{layer}.{name}" for name in inside)]


def test_keys_move_open_and_go_back(browser, large):
    browser.open(large, "#part/layers.2")
    start = cell(browser, "part/layers.2")
    browser.run("arguments[0].focus()", start)
    start.send_keys(Keys.ARROW_DOWN)
    active = browser.driver.switch_to.active_element
    assert active.get_attribute("aria-label").startswith("layers.2.norm1 (norm): 72 parameters")
    active.send_keys(Keys.ARROW_RIGHT)
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert settled(browser, lambda: shown_pages(browser) == ["part/layers.2.attention"])
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert settled(browser, lambda: shown_pages(browser) == ["part/model"])
    stops = browser.run("return document.querySelectorAll('#icicle a.cell:not([tabindex=\"-1\"])').length")
    assert stops == 1


def test_the_table_finds_parts(browser, large):
    browser.open(large)
    browser.driver.find_element(By.CSS_SELECTOR, "details.index summary").click()
    browser.driver.find_element(By.ID, "filter").send_keys("attention")
    rows = browser.run(
        "return [...document.querySelectorAll('#parts tbody tr')].filter(r => r.offsetHeight > 0).length"
    )
    assert rows == 30
    assert browser.driver.find_element(By.ID, "matches").text == "30 of 212"


def test_links_to_a_part_open_it(browser, mlp):
    browser.open(mlp)
    browser.driver.find_element(By.CSS_SELECTOR, ".alert.failed a").click()
    assert settled(browser, lambda: shown_pages(browser) == ["part/mlp.last"])
    text = browser.driver.find_element(By.CSS_SELECTOR, "section.part.on").text
    assert "✗ failed" in text
    assert "parts at digit 7" in text
    assert "no scale brings them within 1e-3 of integers" in text
    assert browser.run("return document.querySelector('section.part.on').getBoundingClientRect().top") > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_parts_are_really_drawn(browser, mlp, scheme):
    browser.scheme(scheme)
    browser.open(mlp, "#part/mlp.first")
    for selector, least in ((".figures", 20), (".bar", 3), (".alert.failed", 20), (".axis", 8), ("#icicle", 6)):
        amount, most_frequent = colours(shoot(browser, selector))
        assert amount >= least, (selector, amount)
        assert most_frequent < 0.995, selector
    for selector, least in ((".part.on .listing", 10), (".part.on .picture img", 25), (".part.on .histogram svg", 2)):
        amount, most_frequent = colours(shoot(browser, selector))
        assert amount >= least, (selector, amount)
        assert most_frequent < 0.98, selector
    background = shoot(browser, "footer")[-1, -1]
    assert (background.mean() > 200) == (scheme == "light")


def test_areas_and_colours_of_the_icicle_are_the_ledger(browser, mlp):
    browser.open(mlp)
    drawn = shoot(browser, "#icicle")
    leaves = drawn[drawn.shape[0] // 2 + 6 : -6]
    assert near(leaves, TEAL) == pytest.approx(0.916, abs=0.03)
    bar = shoot(browser, ".bar")
    assert near(bar, TEAL) == pytest.approx(0.916, abs=0.02)


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_overflows_at_any_width(browser, mlp, width):
    browser.resize(width)
    browser.open(mlp, "#part/mlp.first")
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_without_scripts_all_pages_stand_one_after_the_other(browser, mlp):
    browser.scripts(False)
    browser.open(mlp)
    pages = browser.driver.find_elements(By.CSS_SELECTOR, "section.part")
    assert len(pages) == 5
    assert all(page.is_displayed() for page in pages)
    assert not browser.driver.find_element(By.ID, "filter").is_displayed()


def test_hostile_text_does_not_run(browser, tmp_path):
    path = tmp_path / "report.html"
    write_report(planted.hostile(), planted.hostile_verdicts(), path)
    browser.open(path, "#part-number/4")
    assert shown_pages(browser) == ["part-number/4"]
    assert "<script>alert(1)</script>" in browser.driver.find_element(By.TAG_NAME, "body").text
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert browser.run("return document.scripts.length") == 1
    assert browser.complaints() == []
    assert browser.requests() == [path.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") <= 1280


def test_the_policy_stops_what_gets_past_the_escaping(browser, mlp, tmp_path):
    outside = "<img src='https://example.invalid/x.png' onerror=\"document.title='taken'\">"
    bad = "<script>document.title = 'taken'</script>" + outside
    path = tmp_path / "report.html"
    path.write_text(mlp.read_text(encoding="utf-8").replace("<footer>", bad + "<footer>"), encoding="utf-8")
    browser.open(path)
    assert browser.driver.title == "digits classifier · pellucid"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())
    assert browser.requests(stopped=False) == [path.as_uri()]

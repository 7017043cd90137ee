"""The pages in a real browser: quiet, complete, usable with mouse and keyboard, at all widths."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import run_sample
from step.report.__main__ import main as compare
from tests.helpers.browser import browser, opened
from tests.helpers.masks_of_many import CLASSES, HOSTILE, draw_many
from tests.helpers.tiny import Run, copy_run, run

pytestmark = pytest.mark.slow

COUNT, A_PAGE = 2000, 36
WIDTHS = [(390, "light"), (390, "dark"), (1600, "light"), (1600, "dark")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def folder(finished_run: Run, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a tiny run, sent to somebody else."""
    out_dir = copy_run(finished_run.out_dir, tmp_path_factory.mktemp("run") / "out")
    assert run(tiny_dataset, out_dir, "--steps=report", "--report=yes").status == 0
    sent = tmp_path_factory.mktemp("sent") / "a report"
    shutil.copytree(out_dir / "report", sent)
    return sent


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 2,000 drawn images, some with ids of strangers."""
    root = tmp_path_factory.mktemp("many")
    voc = draw_many(root, COUNT)
    status = run_sample.main([
        f"--data_root={voc}", f"--out_dir={root / 'out'}", f"--sem_seg_out_dir={root / 'masks'}",
        "--steps=eval_sem_seg,report", "--num_workers=0", "--device=cpu", "--panels=0",
    ])  # fmt: skip
    assert status == 0
    return root / "out" / "report"


def cards(page: Page) -> list[str]:
    page.wait_for_selector("#cards li")
    return page.locator("#cards .id").all_text_contents()


def place(page: Page) -> str:
    return page.locator("#place").text_content() or ""


def choose(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.select_option(f"select[name={name}]", value)
    page.wait_for_timeout(300)


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_the_page_of_a_run_is_quiet_and_fits(
    chromium: Browser, folder: Path, width: int, scheme: str
) -> None:
    with opened(chromium, folder / "index.html", width, scheme) as seen:
        assert len(cards(seen.page)) == 8
        assert seen.is_whole(width)
        paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 150) == (scheme == "dark")
        seen.assert_quiet(folder)


def test_its_numbers_are_in_the_page(chromium: Browser, folder: Path) -> None:
    facts = json.loads((folder / "report.json").read_text())
    with opened(chromium, folder / "index.html") as seen:
        rows = seen.page.locator("#scores table").first.locator("tbody tr").all_inner_texts()
        for row, expected in zip(rows, facts["scores"], strict=True):
            assert f"{100 * expected['miou']:.1f}" in row
        text = seen.page.locator("#cards li").first.inner_text()
        worst = facts["gallery"]["images"][0]
        assert worst["id"] in text
        assert f"IoU {100 * worst['iou']['mask_crf']:.1f}" in text


def test_the_picture_over_the_photograph_changes_by_key_and_by_mouse(
    chromium: Browser, folder: Path
) -> None:
    with opened(chromium, folder / "index.html") as seen:
        page = seen.page
        over = page.locator("#cards .over").first
        cards(page)
        assert "/mask_crf/" in (over.get_attribute("src") or "")
        page.keyboard.press("1")
        page.wait_for_timeout(200)
        assert "/cam/" in (over.get_attribute("src") or "")
        page.keyboard.press("0")
        page.wait_for_timeout(200)
        assert page.locator("#cards .over").count() == 0
        page.get_by_label("exact mask").check(force=True)
        page.wait_for_timeout(200)
        assert "/exact/" in (over.get_attribute("src") or "")
        assert "bird" in page.locator("#colours").inner_text()
        seen.assert_quiet(folder)


def test_an_image_is_enlarged_and_left_by_keys_alone(chromium: Browser, folder: Path) -> None:
    with opened(chromium, folder / "index.html") as seen:
        page = seen.page
        first, second = cards(page)[:2]
        page.locator("#cards button").first.focus()
        page.keyboard.press("Enter")
        title = page.locator("#large h3")
        assert title.inner_text() == first
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(200)
        assert title.inner_text() == second
        page.keyboard.press("2")
        page.wait_for_timeout(200)
        assert page.locator("#large [aria-pressed=true]").inner_text().startswith("saliency")
        page.keyboard.press("Escape")
        assert not page.locator("#large").is_visible()
        seen.assert_quiet(folder)


def test_every_picture_has_a_text_and_every_control_a_name(chromium: Browser, folder: Path) -> None:
    with opened(chromium, folder / "index.html") as seen:
        cards(seen.page)
        nameless = """[...document.querySelectorAll('img, svg, button, select, input, dialog')]
            .filter(e => !(e.getAttribute('alt') || e.getAttribute('aria-label')
                           || e.textContent.trim() || e.labels?.length)).length"""
        assert seen.page.evaluate(nameless) == 0
        assert seen.page.evaluate("document.documentElement.lang") == "en"


def test_two_thousand_images_are_turned_by_pages(chromium: Browser, many: Path) -> None:
    with opened(chromium, many / "index.html") as seen:
        page = seen.page
        assert len(cards(page)) == A_PAGE
        assert place(page) == "1 to 36 of 2,000"
        assert page.locator("[data-turn='-1']").first.is_disabled()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
        assert place(page) == "37 to 72 of 2,000"
        page.locator("[data-turn='1']").first.click()
        page.wait_for_timeout(300)
        assert place(page) == "73 to 108 of 2,000"
        assert not any(each.endswith("entries-1.js") for each in seen.requests)
        seen.assert_quiet(many)


def test_filters_orders_and_search(chromium: Browser, many: Path) -> None:
    facts = json.loads((many / "report.json").read_text())["gallery"]
    images = facts["images"]
    with opened(chromium, many / "index.html") as seen:
        page = seen.page
        assert cards(page) == [each["id"] for each in images[:A_PAGE]]
        choose(page, fault="missed")
        missed = [each["id"] for each in images if each["missed"]]
        assert cards(page) == missed[:A_PAGE]
        assert place(page).endswith(f" of {len(missed):,}")
        choose(page, **{"class": "2"})
        both = [each["id"] for each in images if 2 in each["missed"]]
        assert 0 < len(both) < len(missed)
        assert place(page).endswith(f" of {len(both):,}")
        choose(page, fault="none", order="best")
        assert "IoU 100.0" in page.locator("#cards li").first.inner_text()
        choose(page, fault="", order="id", **{"class": ""})
        assert cards(page)[:3] == sorted(each["id"] for each in images)[:3]
        page.fill("input[name=id]", "IMAGE_0012")
        page.wait_for_timeout(300)
        assert cards(page) == [f"image_0012{k}" for k in range(10)]
        page.fill("input[name=id]", "nothing like it")
        page.wait_for_selector("#cards .empty")
        seen.assert_quiet(many)


@pytest.mark.parametrize("image_id", HOSTILE)
def test_ids_of_strangers_stay_text_and_their_pictures_load(
    chromium: Browser, many: Path, image_id: str
) -> None:
    with opened(chromium, many / "index.html") as seen:
        page = seen.page
        cards(page)
        page.fill("input[name=id]", image_id)
        page.wait_for_timeout(300)
        assert cards(page) == [image_id]
        page.wait_for_function(
            "[...document.querySelectorAll('#cards img')].every(e => e.complete)"
        )
        widths = page.eval_on_selector_all("#cards img", "all => all.map(e => e.naturalWidth)")
        assert widths == [32, 32]
        page.locator("#cards button").first.click()
        assert page.locator("#large h3").inner_text() == image_id
        seen.assert_quiet(many)


def test_class_names_of_strangers_stay_text(chromium: Browser, many: Path) -> None:
    with opened(chromium, many / "index.html") as seen:
        rows = seen.page.locator(".classes tbody th").all_inner_texts()
        assert rows == ["background", *CLASSES]
        assert seen.page.locator("select[name=class] option").all_text_contents()[1:] == [*CLASSES]
        assert seen.page.locator("th b, option b").count() == 0
        seen.assert_quiet(many)


def test_the_first_page_is_light_and_quick(chromium: Browser, many: Path) -> None:
    with opened(chromium, many / "index.html") as seen:
        cards(seen.page)
        seen.page.wait_for_load_state("networkidle")
        names = [each.removeprefix(many.resolve().as_uri() + "/") for each in seen.requests]
        paths = [many / name for name in names if "%" not in name and (many / name).is_file()]
        assert sum(path.stat().st_size for path in paths) < 2_000_000
        timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        assert seen.page.evaluate(timing) < 1000


@pytest.mark.parametrize(("width", "scheme"), WIDTHS[::3])
def test_two_runs_side_by_side(
    chromium: Browser, many: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    to = tmp_path / "to"
    assert compare([f"A={many.parent}", f"<b>={many.parent}", f"--to={to}"]) == 0
    with opened(chromium, to / "compare.html", width, scheme) as seen:
        assert seen.page.locator("h1").inner_text() == "A, <b>"
        assert "None that results depend on." in seen.page.locator("#settings").inner_text()
        assert seen.is_whole(width)
        seen.assert_quiet(to)

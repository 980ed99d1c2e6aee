"""The live page in a real browser, with a real server behind it."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import onnxplain as ox
from onnxplain.hierarchy.store import load as load_hierarchy
from onnxplain.model import Model
from onnxplain.serve.api import Limits
from tests import nets
from tests.browser import Watched
from tests.serve.live import CAT, client, serving
from tests.serve.test_guard import bomb, picture

HORSE = CAT.with_name("horse.jpg")
HOSTILE = '<img src=x onerror="document.title=1">\n"\'&' + "x" * 10_000


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Watched]:
    """Return a tab with the live page; afterwards nothing may have gone wrong in it."""
    watched = Watched(browser, accept_downloads=True)
    opened(watched, address)
    yield watched
    troubles = [t for t in watched.troubles if "Failed to load resource" not in t]  # the refusals
    assert troubles == []
    assert all(request.startswith(address) for request in watched.requests)
    watched.context.close()


def opened(watched: Watched, address: str) -> Page:
    """Open the live page in a tab."""
    watched.page.goto(address)
    watched.page.wait_for_selector("#file", state="attached")
    return watched.page


def choose(page: Page, file: Path) -> None:
    """Choose a picture through the file chooser and wait for the answer."""
    with page.expect_file_chooser() as chooser:
        page.locator(".drop").click()
    chooser.value.set_files(file)
    finished(page)


def explain(page: Page) -> None:
    """Press the button and wait for the answer."""
    page.locator(".run").click()
    finished(page)


def finished(page: Page) -> None:
    """Wait for the end of what runs."""
    page.locator(".working").wait_for(state="hidden")
    expect(page.locator(".card").first).to_be_visible()
    expect(page.locator(".problem")).to_be_hidden()


def painted(page: Page, selector: str) -> bool:
    """Return whether the first picture or canvas of a selector shows more than one colour."""
    locator = page.locator(selector).first
    locator.scroll_into_view_if_needed()
    shot = np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))
    return len(np.unique(shot.reshape(-1, 3), axis=0)) > 50


# --- the way through ------------------------------------------------------------------------------
def test_from_a_picture_to_its_hierarchy(tab: Watched, model: Model) -> None:
    page = tab.page
    expect(page.locator(".welcome")).to_be_visible()
    choose(page, CAT)
    expect(page.locator(".ranking li").first).to_contain_text("cat")
    expect(page.locator("#viewer h1")).to_contain_text("cat")
    expected = ox.decompose(model, model.read([CAT]))
    assert page.locator(".node[data-id]").count() == len(expected)
    assert page.locator(".card").count() == 4
    for card in ("positive", "lift_cam", "grad_cam"):
        expect(page.locator(f"[data-method={card}] img")).to_have_js_property("complete", True)
        assert painted(page, f"[data-method={card}] img")
    assert painted(page, ".picture canvas")


def test_hovering_and_clicking_nodes(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    before = page.locator(".picture canvas").first.screenshot()
    node = page.locator(".node[data-id]").nth(1)
    node.hover()
    expect(page.locator(".panel h2")).to_contain_text("channel")
    assert page.locator(".picture canvas").first.screenshot() != before
    node.click()
    expect(node).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".node.dim").first).to_be_attached()


def test_a_class_from_the_ranking(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator(".ranking button").nth(1).click()
    expect(page.locator("#viewer h1")).to_contain_text("dog")
    finished(page)
    assert page.locator("#plus").input_value() == "dog"


def test_a_label_that_two_classes_share(browser: Browser) -> None:
    """ImageNet has two cranes and two maillots."""
    watched = Watched(browser)
    model = nets.load(nets.conv_net(), labels=["crane"] * nets.CLASSES, preprocess="unit")
    with serving(model) as address:
        page = opened(watched, address)
        choose(page, CAT)
        for rank in range(nets.CLASSES):
            button = page.locator(".ranking button").nth(rank)
            button.click()
            finished(page)
            number = button.get_attribute("data-class")
            expect(page.locator("#viewer .summary")).to_contain_text(f"target: {number}")
    watched.context.close()


def test_a_contrast_and_a_comparison(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator("#minus").fill("dog")
    page.locator("#other").fill("7")
    explain(page)
    views = page.locator(".views button")
    assert views.count() == 2
    expect(views.nth(0)).to_contain_text("cat rather than dog")
    expect(views.nth(1)).to_contain_text("horse")
    page.locator("#minus").fill("mean")
    page.locator("#other").fill("")
    explain(page)
    expect(page.locator("#viewer h1")).to_contain_text("cat rather than the mean")


def test_layers_depth_and_children_are_chosen(tab: Watched, model: Model) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator(".options summary").click()
    page.locator("[name=level][value=relu3_2]").uncheck()
    page.locator("[name=level][value=pool2]").check()
    page.locator("#depth").fill("2")
    page.locator("#top-k").fill("1")
    page.locator("#seed").select_option("max")
    page.locator("#weight").select_option("positive")
    page.locator("#cam-layer").select_option("relu2_2")
    explain(page)
    expected = ox.decompose(
        model, model.read([CAT]), layers=["relu1_2", "relu2_2", "pool2"], depth=2, top_k=1,
        seed="max", weight="positive",
    )  # fmt: skip
    shown = page.locator(".node[data-id]")
    assert [shown.nth(i).get_attribute("data-id") for i in range(shown.count())] == list(
        expected.graph
    )
    expect(page.locator("[data-method=lift_cam]")).to_contain_text("relu2_2")


def test_methods_alone_need_no_hierarchy(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator("[value=decompose]").uncheck()
    page.locator("[value=gradient]").check()
    explain(page)
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.locator(".card").count() == 4
    assert painted(page, "[data-method=gradient] img")


def test_downloads_are_what_python_gives(tab: Watched, model: Model, tmp_path: Path) -> None:
    page = tab.page
    choose(page, CAT)
    for name in ("hierarchy.json", "hierarchy.npz", "hierarchy.html", "lift_cam.png"):
        with page.expect_download() as download:
            page.locator(f"a[download='{name}']").click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    expected = ox.decompose(model, model.read([CAT]))
    assert [n.id for n in load_hierarchy(tmp_path)] == [n.id for n in expected]
    with Image.open(tmp_path / "lift_cam.png") as figure:
        assert min(figure.size) > 380
    static = Watched(page.context.browser)  # type: ignore[arg-type]
    assert static.open(tmp_path / "hierarchy.html").locator(".node").count() == len(expected)
    static.context.close()


def test_what_is_no_longer_shown_is_forgotten(tab: Watched, address: str) -> None:
    page = tab.page
    links = page.locator("a[download='hierarchy.json']")
    choose(page, CAT)
    first = str(links.get_attribute("href"))
    explain(page)
    with client(address) as http:
        assert http.get(str(links.get_attribute("href"))).status_code == 200
        assert http.get(first).status_code == 404


def test_stopping_what_runs(browser: Browser, model: Model, held: threading.Event) -> None:
    watched = Watched(browser)
    with serving(model) as address:
        page = opened(watched, address)
        page.locator("#file").set_input_files(CAT)
        expect(page.locator(".working")).to_contain_text("waiting (1 of 2)")
        page.locator(".stop").click()
        expect(page.locator(".working")).to_be_hidden()
        held.set()
        explain(page)
        expect(page.locator("#viewer h1")).to_contain_text("cat")
    watched.context.close()


def test_the_keyboard_alone(tab: Watched) -> None:
    page = tab.page
    # The browser hands choosers over from the first listener on; a key, unlike a click, waits for nothing.
    page.on("filechooser", lambda _: None)
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "file":
            break
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(CAT)
    finished(page)
    page.locator("#plus").focus()
    page.keyboard.type("frog")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer h1")).to_contain_text("frog")


def test_dropping_and_pasting_a_picture(tab: Watched) -> None:
    page = tab.page
    for event, file, label in (("drop", HORSE, "horse"), ("paste", CAT, "cat")):
        page.evaluate(
            """([event, data]) => {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const moved = new DataTransfer();
                moved.items.add(new File([bytes], "some.jpg", { type: "image/jpeg" }));
                window.dispatchEvent(event === "drop" ? new DragEvent("drop", { dataTransfer: moved })
                    : new ClipboardEvent("paste", { clipboardData: moved }));
            }""",
            [event, base64.b64encode(file.read_bytes()).decode()],
        )
        expect(page.locator("#viewer h1")).to_contain_text(label)
        finished(page)


def test_the_controls_fold_away(tab: Watched) -> None:
    page = tab.page
    page.locator(".fold").click()
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator(".fold")).to_have_attribute("aria-expanded", "false")
    page.locator(".fold").click()
    expect(page.locator(".drop")).to_be_visible()


# --- what goes wrong ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"this is text", "not a picture"),
        (picture(1, 1), "too small"),
        (bomb(60_000, 60_000), "too many pixels"),
        (b"", "empty"),
        (bytes(21 << 20), "too large"),
    ],
    ids=["text", "1 pixel", "bomb", "empty", "oversize"],
)
def test_a_bad_upload_is_told_and_the_page_goes_on(
    data: bytes, says: str, tab: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    page = tab.page
    page.locator("#file").set_input_files(path)
    problem = page.locator(".problem")
    expect(problem).to_contain_text(says)
    assert len(problem.inner_text()) < 200
    expect(page.locator(".working")).to_be_hidden()
    choose(page, CAT)
    expect(page.locator("#viewer h1")).to_contain_text("cat")


def test_a_bad_upload_leaves_the_last_picture_usable(tab: Watched, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"text")
    page = tab.page
    choose(page, CAT)
    page.locator("#file").set_input_files(path)
    expect(page.locator(".problem")).to_be_visible()
    page.locator("#plus").fill("dog")
    explain(page)
    expect(page.locator("#viewer h1")).to_contain_text("dog")


def test_an_unknown_class_is_told(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator("#plus").fill("unicorn")
    page.locator(".run").click()
    expect(page.locator(".problem")).to_contain_text("unicorn")


def test_a_method_that_cannot_answer_says_so_in_its_card(tab: Watched) -> None:
    page = tab.page
    choose(page, CAT)
    page.locator("#minus").fill("dog")
    page.locator("[value=active]").check()
    explain(page)
    expect(page.locator(".refused[data-method=active]")).to_contain_text("compares classes")
    expect(page.locator("#viewer h1")).to_contain_text("rather than")


def test_a_server_that_has_gone(browser: Browser, model: Model) -> None:
    watched = Watched(browser)
    with serving(model) as address:
        opened(watched, address)
    watched.page.locator("#file").set_input_files(CAT)
    expect(watched.page.locator(".problem")).to_contain_text("was it stopped")
    watched.context.close()


def test_two_tabs_do_not_mix(browser: Browser, address: str) -> None:
    tabs = [Watched(browser), Watched(browser)]
    pages = [opened(tab, address) for tab in tabs]
    for page, photo in zip(pages, (CAT, HORSE), strict=True):
        page.locator("#file").set_input_files(photo)
    for tab, page, label in zip(tabs, pages, ("cat", "horse"), strict=True):
        finished(page)
        expect(page.locator("#viewer h1")).to_contain_text(label)
        expect(page.locator(".ranking li").first).to_contain_text(label)
        assert tab.troubles == []
        tab.context.close()


def test_the_picture_chosen_last_wins(tab: Watched) -> None:
    page = tab.page
    page.locator("#file").set_input_files(CAT)
    page.locator("#file").set_input_files(HORSE)
    expect(page.locator("#viewer h1")).to_contain_text("horse")
    finished(page)
    expect(page.locator("#viewer h1")).to_contain_text("horse")


def test_hostile_names_do_nothing(browser: Browser) -> None:
    proto = nets.conv_net()
    for node in proto.graph.node:  # the layer's name, as a user would meet it
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = HOSTILE if name == "features" else name
    labels = [HOSTILE + str(i) for i in range(nets.CLASSES)]
    onnx.checker.check_model(proto)
    watched = Watched(browser)
    with serving(nets.load(proto, labels=labels, preprocess="unit"), Limits()) as address:
        page = opened(watched, address)
        choose(page, CAT)
        assert HOSTILE[:12] in page.locator(".ranking li").first.inner_text()
        page.locator(".ranking button").nth(1).click()
        finished(page)
        assert page.locator("img[src=x]").count() == 0
        assert page.title() != "1"
    assert watched.troubles == []
    watched.context.close()

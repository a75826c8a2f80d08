"""A report in a browser: layout, slider, keyboard, contrast, print. Skipped where there is no Chromium."""

import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(joint_run, toolkit, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "report.html"
    toolkit("report", joint_run, "-o", path)
    return path.as_uri()


@pytest.fixture
def opened(browser, report):
    """Opens the report in a window of its own; at the end, nothing may have gone wrong in it."""
    contexts, troubles = [], []

    def call(width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto(report)
        return page

    yield call
    for context in contexts:
        context.close()
    assert not troubles


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """[...document.querySelectorAll("body *")].filter((element) =>
        !element.closest(".scroll, .skip") && element.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.evaluate(beyond) == 0
    tiny = """[...document.querySelectorAll(".plot text")].map((text) => text.getBoundingClientRect().height)"""
    assert min(page.evaluate(tiny)) > 8  # letters of a figure can be read


def test_the_slider_follows_mouse_and_keyboard(opened):
    page = opened(reduced_motion="reduce")  # a page that still scrolls smoothly to the slider moves it from the mouse
    comparison = page.locator(".compare").first
    slider = comparison.locator("input")
    shown = comparison.locator("figure").first.locator("img")

    def clip():
        return shown.evaluate("element => getComputedStyle(element).clipPath")

    middle = clip()
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    right = clip()
    assert right != middle
    assert "60 % truth" in slider.get_attribute("aria-valuetext")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20)
    page.mouse.up()
    assert abs(int(slider.input_value()) - 20) <= 2
    assert clip() not in (middle, right)
    line = comparison.evaluate("element => parseFloat(getComputedStyle(element, '::after').left)")
    assert abs(line / comparison.bounding_box()["width"] - 0.2) < 0.03
    page.keyboard.press("Home")
    assert slider.input_value() == "0"


def test_pictures_go_under_the_sections_that_stay_on_top(opened):
    page = opened(reduced_motion="reduce")
    uncovered = """element => {
        const slider = element.getBoundingClientRect(), nav = document.querySelector("nav").getBoundingClientRect();
        scrollBy(0, slider.top - 5);
        return document.elementFromPoint(slider.left + slider.width / 2, nav.height / 2).closest("nav") !== null;
    }"""
    assert page.locator(".compare input").first.evaluate(uncovered)


def test_the_keyboard_reaches_what_there_is_to_do(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "INPUT", "SUMMARY", "DIV"} <= seen


def test_without_scripts_both_pictures_are_there(opened):
    page = opened(java_script_enabled=False)
    comparison = page.locator(".compare").first
    left, right = (figure.bounding_box() for figure in comparison.locator("figure").all())
    assert left["x"] + left["width"] <= right["x"]
    assert not comparison.locator("input").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_is_found(opened, scheme):
    page = opened(color_scheme=scheme, bypass_csp=True)
    page.locator("details").evaluate("element => { element.open = true; }")
    result = axe.Axe().run(page).response
    serious = [each for each in result["violations"] if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]
    assert any(each["id"] == "color-contrast" for each in result["passes"])
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(247, 248, 249)",
            "dark": "rgb(18, 21, 24)",
        }[scheme]
    )


def test_it_prints(opened):
    page = opened(color_scheme="dark")
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 3
    page.locator(".compare.laid").first.wait_for()  # afterwards it is as before, in its own time
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()

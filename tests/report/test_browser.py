"""The page in a browser: no error, no sideways scrolling, readable in the dark, on a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import pytest

from overparam.pipeline.result import JobResult
from overparam.report.page import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

DARK = "--blink-settings=preferredColorScheme=0"
LOOK = """
<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
addEventListener("load", () => {
  const look = (frame, selector) => {
    const page = frame.contentDocument;
    const style = getComputedStyle(page.querySelector(selector));
    return [style.color, getComputedStyle(page.body).backgroundColor];
  };
  const frames = [...document.querySelectorAll("iframe")];
  document.title = JSON.stringify({
    errors,
    overflow: frames.map(({contentDocument: {documentElement: root}}) =>
      root.scrollWidth - root.clientWidth),
    cut: frames.map(({contentDocument: page}) => [...page.querySelectorAll("svg, dl, pre")].filter(
      each => each.getBoundingClientRect().right > page.documentElement.clientWidth).length),
    body: look(frames[0], "body"),
    note: look(frames[0], ".note"),
    tag: look(frames[0], ".tag.computed"),
    figure: look(frames[0], "svg text").map((_, i) => i ? _ :
      getComputedStyle(frames[0].contentDocument.querySelector("svg text")).fill),
  });
});
</script>
"""


def looked_at(page: str, folder: Path, *flags: str) -> dict:
    """What the browser makes of the page, in frames of a desk's and a phone's width."""
    (folder / "report.html").write_text(page, "utf-8")
    frames = "".join(
        f'<iframe src="report.html" style="width: {width}px; height: 2000px"></iframe>'
        for width in (1200, 400)
    )
    (folder / "frames.html").write_text(f"<title></title>{LOOK}{frames}", "utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", *flags]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom", (folder / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<title>(.+?)</title>", done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    return json.loads(unescape(found[1]))


def run_in(page: str, folder: Path, script: str) -> object:
    """What a script finds on the page, as JSON; it calls ``found`` with it."""
    hook = "<script>const found = value => { document.title = JSON.stringify(value); };"
    page = page.replace("</body>", f"{hook}{script}</script></body>")
    (folder / "tried.html").write_text(page, "utf-8")
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1200,3000",
    ]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=60000", "--dump-dom", (folder / "tried.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    title = re.search(r"<title>(.+?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    return json.loads(unescape(title[1]))


def contrast(pair: list[str]) -> float:
    """Of two colours as a browser states them, by the Web Content Accessibility Guidelines."""

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, pair))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_known_colours():
    assert contrast(["rgb(0, 0, 0)", "rgb(255, 255, 255)"]) == pytest.approx(21)
    assert contrast(["rgb(119, 119, 119)", "rgb(255, 255, 255)"]) == pytest.approx(4.478, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_and_can_be_read(job: JobResult, tmp_path, dark):
    page = render(job, "overparam certify breast_cancer --width 64 --out a/rather/long/folder/name")
    assert len(page.encode()) < 3_000_000
    found = looked_at(page, tmp_path, *([DARK] if dark else []))
    assert found["errors"] == []
    assert found["overflow"] == [0, 0]
    assert found["cut"] == [0, 0]
    for name in ("body", "note", "tag", "figure"):
        assert contrast(found[name]) >= 4.5, (name, found[name])
    assert (sum(map(int, re.findall(r"\d+", found["body"][1])[:3])) < 384) == dark


AXE = """
</script><script>{source}</script><script>
axe.run(document, {{resultTypes: ["violations"]}}).then(({{violations, passes}}) => found({{
  passed: passes.length,
  violations: violations.map(({{id, impact, nodes}}) => [id, impact, nodes.map(n => n.html)]),
}}), error => found(String(error)));
"""


def accessibility(page: str, folder: Path) -> dict:
    """What axe has to say; it comes with a package of which nothing else is used."""
    package = find_spec("axe_playwright_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("axe is not here: pip install --no-deps axe-playwright-python")
    source = Path(package.submodule_search_locations[0], "axe.min.js").read_text("utf-8")
    found = run_in(page, folder, AXE.format(source=source))
    assert isinstance(found, dict), found
    return found


@pytest.mark.slow
def test_axe_finds_nothing_to_mend(job: JobResult, tmp_path):
    page = render(job, "overparam certify breast_cancer --width 64")
    found = accessibility(page, tmp_path)
    assert found["passed"] > 10
    assert found["violations"] == []
    broken = page.replace('<html lang="en-GB">', "<html>").replace(
        "--soft: #55585e", "--soft: #bbb"
    )
    names = {name for name, _, _ in accessibility(broken, tmp_path)["violations"]}
    assert {"html-has-lang", "color-contrast"} <= names


SORT = """
const table = document.querySelector("table.constants");
const column = [...table.tHead.rows[0].cells].findIndex(head => head.textContent === "Value");
const button = table.tHead.rows[0].cells[column].querySelector("button");
const values = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].title));
const before = values();
button.click();
const up = [values(), button.parentNode.ariaSort];
button.click();
found({before, up, down: [values(), button.parentNode.ariaSort]});
"""


@pytest.mark.slow
def test_a_click_on_a_heading_sorts_by_the_exact_values(job: JobResult, tmp_path):
    found = run_in(render(job), tmp_path, SORT)
    finite = sorted(value for value in found["before"] if value is not None)
    assert len(finite) > 10
    assert finite != [value for value in found["before"] if value is not None]
    for (values, order), expected in ((found["up"], finite), (found["down"], finite[::-1])):
        assert [value for value in values if value is not None] == expected
        assert order == ("ascending" if expected == finite else "descending")


POINT = """
const svg = document.querySelector("svg[data-panels]");
const panel = JSON.parse(svg.dataset.panels)[0];
const [id, label] = panel.curves[0];
const path = svg.querySelector(`#${id} path`).getAttribute("d").match(/[\\d.]+/g).map(Number);
const at = new DOMPoint(path[0], path[1]).matrixTransform(svg.getScreenCTM());
const seen = name => {
  svg.dispatchEvent(new PointerEvent(name, {clientX: at.x, clientY: at.y}));
  return svg.nextElementSibling.hidden ? null : svg.nextElementSibling.textContent;
};
found({label, axis: panel.y.label, over: seen("pointermove"), left: seen("pointerleave")});
"""


@pytest.mark.slow
def test_the_pointer_over_a_curve_shows_its_values(job: JobResult, tmp_path):
    """At the first point of the first curve, whose values the job has."""
    found = run_in(render(job), tmp_path, POINT)
    start = found["over"].removeprefix(f"{found['label']}: step 0, {found['axis']} ")
    assert float(start) == pytest.approx(job.descent.history.excess[0], rel=0.01)
    assert found["left"] is None

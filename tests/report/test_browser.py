"""The page in a browser: no error, no sideways scrolling, readable in the dark, on a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
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

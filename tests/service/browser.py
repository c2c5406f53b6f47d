"""A real browser without a window, and what a person can do with a page in it."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_S = 60
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --window-size=1440,960"""

# `.ci/run` installs it there. It is a tool of the tests: nothing imports it, and no release contains it.
_AXE = Path(sys.prefix) / "lib" / "node_modules" / "axe-core" / "axe.min.js"

T = TypeVar("T")


def chromium(profile: Path) -> webdriver.Chrome:
    """Debian's, with a profile of its own; whoever starts it quits it. A named skip where there is none."""
    program, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or chromedriver is None:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, Service(chromedriver))


class Page:
    """What a person can do with a page, and what they see."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def until(self, condition: Callable[[], T], what: str) -> T:
        waiting = WebDriverWait(self.driver, PATIENCE_S, ignored_exceptions=[Exception])
        return waiting.until(lambda _: condition(), what)

    def __getitem__(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self[selector].text

    def says(self, selector: str, words: str) -> None:
        self.until(lambda: words in self.text(selector), f"{selector} says {words!r}")

    def click(self, selector: str, words: str = "") -> None:
        def clicked() -> bool:
            found = [one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if words in one.text]
            found[0].click()
            return True

        self.until(clicked, f"{selector} {words!r} can be clicked")

    def colours(self, left: float, top: float, width: float, height: float) -> int:
        """How many colours a part of the map shows, in shares of its sides."""
        script = """
            const canvas = document.getElementById("canvas");
            const [left, width] = [arguments[0], arguments[2]].map((share) => Math.floor(share * canvas.width));
            const [top, height] = [arguments[1], arguments[3]].map((share) => Math.floor(share * canvas.height));
            const pixels = new Uint32Array(canvas.getContext("2d").getImageData(left, top, width, height).data.buffer);
            return new Set(pixels).size;"""
        return int(self.driver.execute_script(script, left, top, width, height))

    def version(self) -> str:
        return self.text("#versions li.current strong")

    def answers(self, path: str, body: Any) -> None:
        """From here on a request of the page for `path` is answered with `body`, until the page is loaded again."""
        script = """
            const [path, body, real] = [arguments[0], arguments[1], window.fetch];
            window.fetch = (asked, options) =>
                asked === path ? Promise.resolve(new Response(body)) : real(asked, options);
            key.dispatchEvent(new Event("change"));"""  # as after a new key, the page asks for everything
        self.driver.execute_script(script, path, json.dumps(body))

    def overlaps(self) -> list[str]:
        """Elements with content that cover a part of each other, where both can be seen."""
        script = """
            const seen = (element) => {
                let { left, top, right, bottom } = element.getBoundingClientRect();
                for (let around = element.parentElement; around; around = around.parentElement) {
                    if (getComputedStyle(around).overflow === "visible") continue;
                    const clip = around.getBoundingClientRect();
                    [left, top] = [Math.max(left, clip.left), Math.max(top, clip.top)];
                    [right, bottom] = [Math.min(right, clip.right), Math.min(bottom, clip.bottom)];
                }
                return { element, left, top, right, bottom };
            };
            const parts = [...document.querySelectorAll("header *, main *")]
                .filter((one) => one.matches("button, input, select, canvas, a") ||
                    [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
                .filter((one) => one.checkVisibility() && !one.closest("option"))
                .map(seen).filter(({ left, top, right, bottom }) => right - left > 1 && bottom - top > 1);
            const found = [];
            for (const [i, one] of parts.entries()) {
                for (const other of parts.slice(i + 1)) {
                    if (one.element.contains(other.element) || other.element.contains(one.element)) continue;
                    const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
                    const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
                    if (wide > 1 && high > 1) found.push(`${one.element.outerHTML} and ${other.element.outerHTML}`);
                }
            }
            return found;"""
        return list(self.driver.execute_script(script))

    def accessibility_faults(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now. Skips the test where it is not installed."""
        if not _AXE.exists():
            pytest.skip("axe-core is not installed")
        self.driver.execute_script(_AXE.read_text())
        script = """
            const [done] = arguments;
            axe.run().then(({ violations }) => done(violations.flatMap(({ id, nodes }) =>
                nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`))),
                (error) => done([String(error)]));"""
        return list(self.driver.execute_async_script(script))


@contextmanager
def screen(page: Page, width: int, height: int, *, mobile: bool = False) -> Iterator[None]:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.until(lambda: page.driver.execute_script("return innerWidth") == width, "the page has the screen's width")
    try:
        yield
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@contextmanager
def colour_scheme(page: Page, name: str) -> Iterator[None]:
    """`light` or `dark`."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        yield
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

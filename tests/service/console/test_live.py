"""Live estimates."""

import math
import re

import httpx
import numpy as np
import pytest

from tests.service.browser import Page
from tests.service.console.surveys import CELL, locate


def test_estimates_are_drawn_while_watched_and_then_gone(page: Page, operator: httpx.Client) -> None:
    watch(page)
    locate(operator, range(5))
    page.says("#live-status", "located in the last minute, 95 % within")
    page.says("#live-status", "(median), by mateformer (5).")
    page.click("#watch")
    page.says("#live-status", "The service keeps no estimates while no page watches.")


@pytest.mark.parametrize("azimuth", [0, 30, 90, 150])
def test_estimates_are_drawn_as_ellipses_of_their_own_shape_and_orientation(page: Page, azimuth: int) -> None:
    script = """
        const [ellipse, done] = arguments;
        import("/console/assets/estimates.js").then(({ drawEstimates }) => {
            const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
            const context = canvas.getContext("2d");
            const pixels = (east, north) => [200 + 10 * east, 200 - 10 * north];
            const map = { context, canvas, pixels, view: { scale: 10 }, colour: () => "#ff0000" };
            drawEstimates(map, [{ point: { x: 2, y: -3 }, uncertaintyEllipse: ellipse, seen: Date.now() }]);
            const { data } = context.getImageData(0, 0, 400, 400);
            const painted = [];
            for (let i = 0; i < 400 * 400; i++) if (data[4 * i + 3]) painted.push([i % 400, Math.floor(i / 400)]);
            done(painted);
        });"""
    ellipse = {"semiMajor": 12.0, "semiMinor": 3.0, "orientationMajor": azimuth}
    painted = np.array(page.driver.execute_async_script(script, ellipse), float)
    places = (painted + 0.5 - 200) * (0.1, -0.1)  # metres east and north
    assert places.mean(axis=0) == pytest.approx((2, -3), abs=0.05)
    variances, axes = np.linalg.eigh(np.cov(places.T))
    assert 2 * np.sqrt(variances[::-1]) == pytest.approx((12.0, 3.0), abs=0.5)  # the line is 0.5 m wide
    turned = math.degrees(math.atan2(*axes[:, 1])) - azimuth
    assert (turned + 90) % 180 - 90 == pytest.approx(0, abs=1)


def test_the_status_says_which_confidences_the_ellipses_have(page: Page, operator: httpx.Client) -> None:
    ellipse = {"semiMajor": 0.5, "semiMinor": 0.2, "orientationMajor": 30}
    one = {"point": {"x": 20.0, "y": 0.0}, "uncertaintyEllipse": ellipse, "source": "lwlm"}
    estimates = [one | {"number": number, "confidence": 90 + number} for number in (1, 5)]
    page.answers(f"cells/{CELL}/live", {"estimates": estimates, "next": 5})
    page.click("#watch")
    page.says("#live-status", "2 located in the last minute, 91 to 95 % within")


def watch(page: Page) -> None:
    """From here on estimates are kept."""
    page.click("#watch")
    page.until(lambda: re.search(r"No user was|located in", page.text("#live-status")), "the page has asked once")


def test_live_estimates_that_the_service_forbids_cannot_be_switched_on(page: Page) -> None:
    assert page["#watch"].is_enabled()
    page.answers("console/settings", {"live": False})
    page.says("#live-status", "set FINGERPOST_CONSOLE_LIVE=true")
    assert not page["#watch"].is_enabled()


def test_live_estimates_that_the_key_forbids_are_switched_off_with_the_reason(page: Page) -> None:
    forbid = """
        const real = window.fetch;
        const problem = { title: "Forbidden", detail: "this key lacks the scope operate" };
        window.fetch = (asked, options) => asked.includes("/live")
            ? Promise.resolve(new Response(JSON.stringify(problem), { status: 403 })) : real(asked, options);"""
    page.driver.execute_script(forbid)
    page.click("#watch")
    page.says("#live-status", "this key lacks the scope operate")
    assert not page["#watch"].is_enabled()


def test_estimates_of_one_track_are_joined_by_a_line(page: Page) -> None:
    script = """
        const [tracks, done] = arguments;
        import("/console/assets/estimates.js").then(({ drawEstimates }) => {
            const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
            const context = canvas.getContext("2d");
            const pixels = (east, north) => [200 + 10 * east, 200 - 10 * north];
            const map = { context, canvas, pixels, view: { scale: 10 }, colour: () => "#ff0000" };
            const ellipse = { semiMajor: 1, semiMinor: 1, orientationMajor: 0 };
            const places = [[-10, 0], [0, 5], [10, 0]];
            drawEstimates(map, places.map(([x, y], i) =>
                ({ point: { x, y }, uncertaintyEllipse: ellipse, seen: Date.now(), track: tracks[i] })));
            const opaque = (x, y) => context.getImageData(...pixels(x, y), 1, 1).data[3] > 0;
            done([opaque(-5, 2.5), opaque(5, 2.5), opaque(0, 0)]);
        });"""
    drawn = {
        tracks: page.driver.execute_async_script(script, list(tracks)) for tracks in ((1, 1, 1), (1, 2, 1), (None,) * 3)
    }
    assert drawn == {(1, 1, 1): [True, True, False], (1, 2, 1): [False, False, True], (None,) * 3: [False] * 3}

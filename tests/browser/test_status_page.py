"""The page of a cluster's status in a real Chromium: on narrow and wide screens, light, dark and printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from etcd_cluster.rollout.status import ClusterStatus
from etcd_cluster.rollout.status_page import as_html
from tests.browser import chromium
from tests.browser.chromium import CONTRAST, OUTSIDE
from tests.unit.test_status_page import ailing, well

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium (Debian's package `chromium`)")

WIDTHS = (360, 768, 1440)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def tab() -> Iterator[chromium.Page]:
    with chromium.opened() as tab:
        yield tab


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("make", [well, ailing])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen_and_all_can_be_read(
    width: int, make: Callable[[], ClusterStatus], dark: bool, tab: chromium.Page
) -> None:
    status = make()
    tab.show(as_html(status), width=width, dark=dark)
    assert tab.evaluate(OVERFLOW) == 0
    assert tab.evaluate(OUTSIDE) == []
    assert tab.evaluate(CONTRAST) >= 4.5, "as WCAG AA asks for text"
    text = tab.evaluate("document.body.innerText")
    assert all(member.name in text for member in status.members)
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark


def test_it_is_printed_dark_on_white_whatever_the_screen_is(tab: chromium.Page) -> None:
    tab.show(as_html(ailing()), width=794, dark=True, media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert tab.evaluate(OUTSIDE) == []


def test_a_page_that_is_too_wide_is_found(tab: chromium.Page) -> None:
    tab.show(as_html(well()).replace("<main>", '<main><p style="width:500px">wide</p>'), width=360)
    assert tab.evaluate(OVERFLOW) > 0
    assert any("wide" in each for each in tab.evaluate(OUTSIDE))

"""A report's file in a browser: from the disk, without a network, on any screen and on paper."""

from keras_lm.presentation.report import run_report
from keras_lm.runs.supervisor import Supervisor
from tests.presentation.test_report import EVIL, RUN, put_run


def test_a_browser_opens_it_without_complaint(new_page, tmp_path):
    folder = put_run(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(run_report(folder, Supervisor(tmp_path).summary(RUN)))
    page = new_page(viewport={"width": 390, "height": 844}, offline=True)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert page.locator("svg").bounding_box()["height"] > 200
    assert EVIL in page.title() and page.locator("img").count() == 0
    page.get_by_text("Whole samples").click()
    assert EVIL in page.locator("pre").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    settings = page.get_by_text("model.context_length", exact=True)
    assert not settings.is_visible()
    page.emulate_media(media="print")  # on paper nobody can open what is folded
    assert settings.is_visible()
    assert requests == [path.as_uri()]

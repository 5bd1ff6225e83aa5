"""A report's file in a browser: from the disk, without a network."""

from keras_lm.presentation.report import run_report
from keras_lm.runs.supervisor import Supervisor
from tests.presentation.test_report import EVIL, RUN, put_run


def test_a_browser_opens_it_without_complaint(new_page, tmp_path):
    folder = put_run(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(run_report(folder, Supervisor(tmp_path).summary(RUN)))
    page = new_page()
    page.goto(path.as_uri())
    assert page.locator("svg").bounding_box()["height"] > 200
    assert EVIL in page.title() and page.locator("img").count() == 0
    assert EVIL in page.locator("pre").first.inner_text()

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from blindsr.pipelines.ablation_store import Store
from blindsr.pipelines.ablation_summary import summarise
from blindsr.report.ablation import write_ablation_report
from blindsr.report.overview import finding, number

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """What a page is made of; a tag that is closed wrongly is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.ids = [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.addresses += [values[name] for name in ("src", "href", "action", "srcset") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def of_class(self, name):
        return [values for _, values in self.tags if name in (values.get("class") or "").split()]


@pytest.fixture(scope="module")
def text(results):
    return write_ablation_report(results).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_needs_no_network_and_no_other_file(page, text):
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("data:", "#")), address
    assert not re.findall(r"@import|url\(|https?://|fetch\(|XMLHttpRequest", text)


def test_names_and_notes_are_text_and_no_markup(text):
    assert "a &amp; b" in text
    assert "a doubt &lt;about&gt; it." in text
    assert "<about>" not in text
    assert "too &lt;small&gt;" in text


def test_links_lead_to_the_images(page):
    targets = [a[1:] for a in page.addresses if a.startswith("#")]
    assert targets
    assert set(targets) <= set(page.ids)


def test_every_image_has_all_its_pictures_and_two_are_shown(page, results):
    sliders = [values for tag, values in page.tags if tag == "img" and "data-method" in values]
    methods = [values["data-method"] for values in sliders]
    everything = [*results.plan["methods"], "hr"]
    assert methods == everything + [m for m in everything if m != "kernelgan"]
    shown = [values["class"] for values in sliders if values["class"]]
    assert shown == ["left", "right"] * 2
    ranges = [values for tag, values in page.tags if tag == "input" and values["type"] == "range"]
    assert all(values["aria-label"] for values in ranges)
    assert len(ranges) == 2


def test_every_picture_has_words_for_who_cannot_see_it(page):
    assert all(values.get("alt") for tag, values in page.tags if tag == "img")


def test_the_kernels_are_on_one_frame_and_curves_along_both_axes(page):
    assert len(page.of_class("kernel")) == 4 + 3
    assert len(page.of_class("mtf")) == 4


def test_a_failed_cell_is_listed(text):
    assert "Cells that failed" in text
    assert "small, kernelgan, seed 0: ValueError: too &lt;small&gt;" in text


def test_the_table_sorts_by_numbers(page):
    values = [v["data-value"] for tag, v in page.tags if tag == "td" and "data-value" in v]
    assert len(values) > 20
    assert all(float(value) == float(value) for value in values)


def test_the_finding_is_in_words(results):
    words = finding(summarise(results), 2)
    gain = next(row for row in summarise(results).methods if row.method == "spectral").gain
    assert words.startswith(f"On 1 image at ×2, the spectral kernel gains {gain:.2f} dB over the bicubic one")


def test_without_a_whole_image_the_page_says_so(results):
    rows = tuple(row for row in results.rows if row["method"] == "interpolation")
    words = finding(summarise(replace(results, rows=rows)), 2)
    assert "run the ablation again to complete it" in words
    assert write_ablation_report(replace(results, rows=rows)).is_file()


def test_the_page_can_be_made_again_from_the_folder(results, text):
    again = write_ablation_report(Store(results.folder).load())
    assert again.read_text(encoding="utf-8") == write_ablation_report(results).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "signed", "words"),
    [
        (1.234, False, "1.23"),
        (-1.234, True, "−1.23"),
        (0.5, True, "+0.50"),
        (None, True, "–"),
        (float("inf"), False, "∞"),
    ],
)
def test_numbers_are_for_people(value, signed, words):
    assert number(value, 2, signed=signed) == words

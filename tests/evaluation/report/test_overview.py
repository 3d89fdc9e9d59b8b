import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from blindsr.evaluation.report.overview import finding, write_ablation_report
from blindsr.evaluation.results import Store, summarise

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The elements of a page; a wrongly closed tag is an error."""

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


def test_names_and_warnings_are_escaped(text):
    assert "a &amp; b" in text
    assert "a warning &lt;about&gt; it." in text
    assert "<about>" not in text
    assert "too &lt;small&gt;" in text


def test_links_lead_to_the_images(page):
    targets = [a[1:] for a in page.addresses if a.startswith("#")]
    assert targets
    assert set(targets) <= set(page.ids)


def test_every_image_has_a_view_of_each_method_and_two_are_shown(page, results):
    sliders = [values for tag, values in page.tags if tag == "img" and "data-method" in values]
    methods = [values["data-method"] for values in sliders]
    everything = [*results.plan["methods"], "hr"]
    assert methods == everything + [m for m in everything if m != "kernelgan+pretrained"]
    shown = [values["class"] for values in sliders if values["class"]]
    assert shown == ["left", "right"] * 2
    ranges = [values for tag, values in page.tags if tag == "input" and values["type"] == "range"]
    assert all(values["aria-label"] for values in ranges)
    assert len(ranges) == 2


def test_every_picture_has_an_alternative_text(page):
    assert all(values.get("alt") for tag, values in page.tags if tag == "img")


def test_every_kernel_but_the_bicubic_one_is_plotted(page):
    assert len(page.of_class("kernel")) == 3 + 2


def test_a_failed_cell_is_listed(text):
    assert "Cells that failed" in text
    assert "small, kernelgan+pretrained, seed 0: ValueError: too &lt;small&gt;" in text


def test_the_table_sorts_by_numbers(page):
    values = [v["data-value"] for tag, v in page.tags if tag == "td" and "data-value" in v]
    assert len(values) > 20
    assert all(float(value) == float(value) for value in values)


def test_the_main_result_is_in_words(results):
    text = finding(summarise(results), 2)
    gain = next(row for row in summarise(results).methods if row["method"] == "spectral+pretrained")["gain"]
    assert text.startswith(f"On 1 image at ×2, the spectral kernel gains {gain:.2f} dB over the bicubic kernel")


def test_the_page_can_be_written_again_from_the_folder(results, text):
    again = write_ablation_report(Store(results.folder).load())
    assert again.read_text(encoding="utf-8") == text


def test_without_a_complete_image_the_page_explains_it(results):
    rows = tuple(row for row in results.rows if row["method"] == "interpolation")
    text = finding(summarise(replace(results, rows=rows)), 2)
    assert "run the ablation again to complete it" in text
    assert write_ablation_report(replace(results, rows=rows)).is_file()

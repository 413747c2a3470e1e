"""The page: complete, self-contained, and in a real browser."""

from __future__ import annotations

import base64
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

import browser
import zoo
from served_models import SMALL
from zoo import tasks
from zoo.export.serving.page import described, page

FOLDER = Path(page.__file__).parent
needs_chromium = pytest.mark.skipif(not (browser.CHROMIUM and browser.DRIVER), reason=browser.MISSING)


def text_of(client):
    status, headers, body = client.send("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    return headers, body.decode()


def test_every_kind_has_a_renderer():
    requests = {file.stem for file in (FOLDER / "requests").glob("*.js")}
    answers = {file.stem for file in (FOLDER / "answers").glob("*.js")}
    assert requests == set(tasks.REQUEST_KINDS.names())
    assert answers == set(tasks.ANSWER_KINDS.names())
    for folder, names in (("request", requests), ("answer", answers)):
        for name in names:
            source = (FOLDER / f"{folder}s" / f"{name}.js").read_text()
            assert re.search(rf"^{folder}Kinds\.{name} = ", source, re.MULTILINE)


def test_the_page_needs_no_other_file_and_no_network(client):
    headers, text = text_of(client)
    found = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Parser().feed(text)
    assert not [tag for tag, attributes in found if tag in ("img", "iframe", "object")]
    links = [attributes.get("src") or attributes.get("href") for _, attributes in found]
    assert {link for link in links if link} == {"data:,", "#request", "openapi.json", "metrics", "v1/models"}
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r'id="models-data">.*?</script>', "", text))
    policy = headers["content-security-policy"]
    nonce = next(attributes["nonce"] for tag, attributes in found if tag == "script" and "nonce" in attributes)
    assert "default-src 'none'" in policy and f"'nonce-{nonce}'" in policy
    assert text_of(client)[0]["content-security-policy"] != policy


def test_the_data_of_the_page_come_from_the_artifacts(client):
    data = json.loads(re.search(r'id="models-data">(.*?)</script>', text_of(client)[1], re.DOTALL)[1])
    iris = data["iris"]["signatures"]["serving_default"]
    assert list(iris["inputs"]) == ["sepal_length", "sepal_width", "petal_length", "petal_width"]  # as in the data
    assert iris["inputs"]["petal_width"]["column"] == "petal width"
    low, high = (iris["inputs"]["petal_width"][side] for side in ("low", "high"))
    assert low == pytest.approx(0.1) and high == pytest.approx(2.5)
    files = client.repository.model("digits").version().signatures["serving_default"].golden["image_bytes"]
    examples = data["digits"]["signatures"]["serving_default"]["examples"]
    assert len(examples) == 12 and base64.b64decode(examples[0]["image_bytes"]["b64"]) == files[0]
    assert data["commands"]["labels"] == ["ask", "blame", "switch off", "switch on"]


def test_names_from_an_artifact_cannot_leave_the_data(client, monkeypatch):
    version = client.repository.model("commands").version()
    monkeypatch.setattr(version, "labels", ["</script><script>alert(1)</script>", "@NONCE@", "\u2028"])
    text = text_of(client)[1]
    assert "<script>alert" not in text
    data = json.loads(re.search(r'id="models-data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["commands"]["labels"] == version.labels


def test_hints_of_strange_metadata_are_left_out():
    for facts in ({}, {"preprocessor": None}, {"preprocessor": {"groups": [{"lows": [1.0]}]}}):
        assert not described.column_hints(facts)


CHOOSE = "const s = document.getElementById('model'); s.value = arguments[0]; s.dispatchEvent(new Event('change'));"
ANSWERED = "return document.getElementById('latency').innerText !== ''"


def shown_answer(window, name, place):
    """Clicks a golden example; returns the text of the answer."""
    window.run(CHOOSE, name)
    window.run("document.querySelectorAll('.examples button')[arguments[0]].click()", place)
    window.wait(ANSWERED)
    return window.run("return document.getElementById('answer').innerText")


@needs_chromium
def test_a_golden_example_in_chromium(client):
    info = client.repository.model("commands").version().signatures["serving_default"]
    with browser.browser() as window:
        window.open(f"http://127.0.0.1:{client.port}/")
        answer = shown_answer(window, "commands", 1)
        assert answer.splitlines()[0] == info.answers["class_name"][1].decode()
        assert window.complaints() == []


@needs_chromium
@pytest.mark.slow
def test_the_page_in_chromium(client, artifacts, tmp_path):
    with browser.browser() as window:
        window.open(f"http://127.0.0.1:{client.port}/")
        for name in artifacts:
            info = client.repository.model(name).version().signatures["serving_default"]
            for place in (0, 1):
                answer = shown_answer(window, name, place)
                assert answer.splitlines()[0] == info.answers["class_name"][place].decode()
                best = float(re.search(r"\d\.\d{4}", answer)[0])
                assert best == pytest.approx(info.answers["probabilities"][place].max(), abs=1e-4)

        window.run(CHOOSE, "commands")
        window.run("document.getElementById('input-text').value = 'turn the radio off, please'")
        window.run("document.getElementById('send').click()")
        window.wait(ANSWERED)
        want = zoo.export.load(artifacts["commands"]).predict(["turn the radio off, please"])[0]
        answer = window.run("return document.getElementById('answer').innerText")
        assert answer.splitlines()[0] == want["class_name"]
        assert "turn the radio off, please" in window.run("return document.getElementById('code').innerText")

        window.run(CHOOSE, "iris")
        window.run(
            "document.getElementById('input-petal_width').value = 'wide'; document.getElementById('send').click()"
        )
        message = window.wait("return document.querySelector('#answer .error')?.innerText")
        assert message == 'petal width is "wide"; expected a number. Correct it, or leave it empty.'
        png = base64.b64encode(
            client.repository.model("digits").version().signatures["serving_default"].golden["image_bytes"][3]
        ).decode()
        window.run(CHOOSE, "digits")
        drop = """
            const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
            document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data }));"""
        window.run(drop, png)
        window.wait(ANSWERED)
        info = client.repository.model("digits").version().signatures["serving_default"]
        answer = window.run("return document.getElementById('answer').innerText")
        assert answer.splitlines()[0] == info.answers["class_name"][3].decode()
        unnamed = """
            return [...document.querySelectorAll("input, select, textarea, button")]
              .filter((part) => part.offsetParent && !part.labels?.length && !part.innerText && !part.ariaLabel
                && !part.querySelector("img[alt]:not([alt=''])"))
              .map((part) => part.outerHTML)"""
        assert window.run(unnamed) == []
        assert window.complaints() == []


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_on_a_phone_and_in_the_dark(client, dark):
    with browser.browser(width=390, height=844, dark=dark) as window:
        window.open(f"http://127.0.0.1:{client.port}/")
        for name in ("digits", "commands", "iris"):
            shown_answer(window, name, 0)
            assert window.run("return document.documentElement.scrollWidth <= innerWidth")
        if dark:
            colour = window.run("return getComputedStyle(document.body).backgroundColor")
            assert np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]) < 60


@needs_chromium
@pytest.mark.slow
def test_series_and_tags_in_chromium(more):
    with browser.browser() as window:
        window.open(f"http://127.0.0.1:{more.port}/")
        forecast = more.repository.model("seasons").version().signatures["serving_default"].answers["forecast"][0]
        answer = shown_answer(window, "seasons", 0)
        numbers = [float(part) for part in re.findall(r"-?[\d.]+(?:e-?\d+)?", answer.partition("forecast:")[2])]
        np.testing.assert_allclose(numbers, forecast, rtol=1e-3)
        assert window.run("return document.querySelectorAll('#answer polyline').length") == 2
        info = more.repository.model("tagged_commands").version().signatures["serving_default"]
        shown_answer(window, "tagged_commands", 0)
        words = window.run(
            "return [...document.querySelectorAll('.words li')].map((part) => part.firstChild.textContent)"
        )
        assert words == [token.decode() for token in info.answers["tokens"][0] if token]
        assert window.complaints() == []
    assert set(SMALL) > {"seasons", "tagged_commands"}

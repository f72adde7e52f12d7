"""The page of a run: its sections, what it says where there is no data, what it loads, and what it lets in."""

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from page_reader import Page, read
from sample_results import RESULTS
from view_results import HOSTILE, hostile, many, not_all_committed, request

from fed_unlearn.gate import GateCheck
from fed_unlearn.simulations.report.page import SECTIONS, render_report, write_report
from fed_unlearn.simulations.run.results import ResultsError, RunResults

EMPTY = RunResults(scenario="digits", seed=0, engine="inprocess")
MADE = {"sample": RESULTS, "empty": EMPTY, "not all committed": not_all_committed(), "hostile": hostile()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module", params=list(MADE))
def page(request: pytest.FixtureRequest, folder: Path) -> Page:
    return read(render_report(MADE[request.param], folder))


def policy_of(page: Page) -> str:
    (policy,) = [item.attributes["content"] for item in page.all("meta") if "http-equiv" in item.attributes]
    return policy


def test_every_section_is_there_in_order_with_a_heading(page: Page) -> None:
    sections = [element for element in page.all("section") if element.attributes["id"] in SECTIONS]
    assert [element.attributes["id"] for element in sections] == list(SECTIONS)
    for element in sections:
        headings = page.all("h2", id=element.attributes["aria-labelledby"])
        assert [heading.text for heading in headings] == [SECTIONS[element.attributes["id"]]]
        assert element.text.replace(headings[0].text, "").strip(), element.attributes["id"]


def test_nothing_is_loaded_and_no_connection_is_allowed(page: Page) -> None:
    assert [address for address in page.addresses() if not address.startswith(("data:image/", "#"))] == []
    policy = policy_of(page)
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy
    assert "@import" not in page.all("style")[0].text and "url(" not in page.all("style")[0].text


def test_tables_have_captions_and_headings_and_images_have_texts(page: Page) -> None:
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions)
    assert all(element.attributes.get("scope") for element in page.all("th"))
    assert all(element.attributes["alt"] for element in page.all("img"))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("title")[0].text


def test_ids_are_unique_and_every_link_leads_somewhere(page: Page) -> None:
    ids = [element.attributes["id"] for element in page.having("id")]
    assert len(ids) == len(set(ids))
    assert {element.attributes["href"].removeprefix("#") for element in page.all("a")} <= set(ids)


def test_specifications_are_packed_json(page: Page) -> None:
    for element in page.all("script", type="application/gzip"):
        text = gzip.decompress(base64.b64decode(element.text)).decode()
        assert element.attributes.get("id") == "library" or json.loads(text).keys() == {"wide", "narrow"}


def test_drawings_are_whole(page: Page) -> None:
    for image in page.all("img"):
        drawing = ElementTree.fromstring(unquote(image.attributes["src"].removeprefix("data:image/svg+xml,")))
        ids = {element.get("id") for element in drawing.iter() if element.get("id")}
        uses = [element.get("href") for element in drawing.iter() if element.tag.endswith("use")]
        assert drawing.tag.endswith("svg") and {str(use)[1:] for use in uses} <= ids


def test_sections_without_data_say_why(folder: Path) -> None:
    page = read(render_report(EMPTY, folder))
    found = {section.attributes["id"]: " ".join(section.text.split()) for section in page.all("section")}
    assert "No request has been served." in found["summary"]
    assert "No model of this run has been evaluated yet." in found["timeline"]
    assert "none was served" in found["requests"] and "none was served" in found["audits"]
    assert "was not recorded" in found["destinations"] and "No features were recorded" in found["features"]
    assert "No ROC curve was recorded" in found["membership"]


def test_a_run_without_an_oracle_says_how_to_train_one(folder: Path) -> None:
    results = replace(RESULTS, requests=tuple(replace(item, oracle=None) for item in RESULTS.requests))
    found = {item.attributes["id"]: item.text for item in read(render_report(results, folder)).all("section")}
    assert "No oracle was trained: run with --oracle" in found["requests"]
    assert "No oracle was trained: run with --oracle" in found["cost"]


def test_the_headline_tells_failed_and_held_requests_with_their_reasons(folder: Path) -> None:
    page = read(render_report(not_all_committed(), folder))
    summary = " ".join(page.all("section", id="summary")[0].text.split())
    assert "1 of 4 requests committed; 1 failed, 1 rejected, 1 held." in summary
    assert "The run is not complete" in summary
    assert "the data stays out of training: forget accuracy 0.250 is over 0.050." in summary
    assert "held until somebody approves it: it asks for 0.8 of the samples of client 4" in summary
    assert "it was rejected: client 7 is not known." in summary
    assert "it has worn off: after r1 the gate would refuse it." in summary
    assert any(
        "bad" in element.attributes["class"].split() for element in page.all("div") if "class" in element.attributes
    )


def test_verdicts_are_those_of_the_gate_and_beside_the_oracle(folder: Path) -> None:
    page = read(render_report(not_all_committed(), folder))
    rows = [" ".join(row.text.split()) for row in page.all("tr", role="row")]
    assert any(row.startswith("forget accuracy") and row.endswith("✓ inside the bound: at most 0.050") for row in rows)
    assert any(row.startswith("recall at 5") and row.endswith("✕ outside the bound: at most 0.400") for row in rows)
    assert any(row.startswith("retain drop") and row.endswith("✓ inside the bound: at most 0.020") for row in rows)
    assert any(row.startswith("retain accuracy") and row.endswith("≈ within the oracle's interval") for row in rows)
    assert any(row.startswith("logit AUC") and row.endswith("no bound") for row in rows)


def audit_lines(results: RunResults, folder: Path) -> list[str]:
    return [" ".join(row.text.split()) for row in read(render_report(results, folder)).all("tr", role="row")]


def judged(after: dict[str, object], *checks: GateCheck) -> RunResults:
    """A request that its oracle stands beside, with these figures at its end and these checks."""
    asked = request("r1", 3, checks=checks)
    oracle = {"test_forget_accuracy": (0.0, 0.02), "test_retain_accuracy": (0.95, 0.99), "membership_auc": (0.4, 0.55)}
    models = {
        "after": replace(asked.after, **after),
        "oracle": replace(asked.oracle, membership_auc=0.5, intervals=oracle),
    }
    return replace(EMPTY, requests=(replace(asked, **models),))


def test_a_verdict_of_the_gate_stands_beside_the_figure_that_it_is_of(folder: Path) -> None:
    attack = GateCheck(
        figure="validation_membership_auc", value=0.75, interval=(0.625, 0.875), minimum=0.5, maximum=0.5, passed=False
    )
    score = GateCheck(figure="logit_auc", value=0.25, maximum=0.5, passed=True)
    after = {"membership_auc": 0.57, "intervals": {"membership_auc": (0.5, 0.625)}}
    rows = audit_lines(judged(after, attack, score), folder)
    (own,) = [row for row in rows if row.startswith("validation membership AUC")]
    assert "0.7500.625 to 0.875" in own and own.endswith(
        "✕ outside the bound: the interval 0.625 to 0.875 is to hold 0.500"
    )
    (table,) = [row for row in rows if row.startswith("membership AUC")]
    assert "0.5700.500 to 0.625" in table and table.endswith("~ its interval meets the oracle's")
    (measured,) = [row for row in rows if row.startswith("logit AUC, as the gate measured it")]
    assert "0.250" in measured and measured.endswith("✓ inside the bound: at most 0.500")
    assert any(row.startswith("logit AUC 0.900") or row.startswith("logit AUC0.900") for row in rows)
    same = audit_lines(judged(after, replace(score, value=0.9, passed=False)), folder)
    assert [row.endswith("✕ outside the bound: at most 0.500") for row in same if row.startswith("logit AUC")] == [True]


def test_figures_without_a_bound_stand_beside_the_oracle(folder: Path) -> None:
    after = {"test_forget_accuracy": 0.25, "intervals": {"test_forget_accuracy": (0.125, 0.375)}}
    rows = audit_lines(judged(after, GateCheck(figure="retain_drop", value=0.0, maximum=0.02, passed=True)), folder)
    found = {
        name: row
        for row in rows
        for name in ("test forget", "test retain", "retain accuracy", "membership AUC")
        if row.startswith(name)
    }
    assert found["test forget"].endswith("≠ apart from the oracle's interval")
    assert found["test retain"].endswith("≈ within the oracle's interval")
    assert found["membership AUC"].endswith("≈ within the oracle's interval")
    assert found["retain accuracy"].endswith("\N{EN DASH} no bound")


def test_results_of_earlier_versions_keep_the_interval_that_the_gate_judged(tmp_path: Path) -> None:
    attack = GateCheck(figure="membership_auc", interval=(0.25, 0.375), minimum=0.5, maximum=0.5, passed=False)
    judged({"intervals": {}}, attack).save(tmp_path)
    rows = audit_lines(RunResults.load(tmp_path), tmp_path)
    assert any(
        row.startswith("validation membership AUC") and "outside the bound: the interval 0.250" in row for row in rows
    )
    assert not any(row.startswith("membership AUC") and "bound:" in row for row in rows)


def test_results_without_the_gates_bounds_are_not_said_to_have_none(folder: Path) -> None:
    results = not_all_committed()
    old = replace(results, requests=tuple(replace(request, checks=()) for request in results.requests))
    page = read(render_report(old, folder))
    rows = [" ".join(row.text.split()) for row in page.all("tr", role="row")]
    unknown = "the gate's bounds are not in these results"
    assert any(row.startswith("forget accuracy") and row.endswith(unknown) for row in rows)
    assert not any(row.endswith("no bound") for row in rows)


def test_clients_that_owe_failed_or_never_trained_are_named(folder: Path) -> None:
    page = read(render_report(not_all_committed(), folder))
    (section,) = page.all("section", id="clients")
    rows = [" ".join(row.text.split()) for row in page.all("tr") if row.within(lambda item: item is section)]
    assert {"0✓ trainedr1", "7✓ trained1 times: KeyErrorr1", "9✕ never trained"} <= set(rows)


def test_hostile_names_stay_text(folder: Path) -> None:
    html = render_report(hostile(), folder)
    page = read(html)
    assert not any("onerror" in element.attributes for element in page.elements)
    assert "document.title='owned'</script>" not in html
    assert len(page.all("script")) == 1 + len(page.all("script", type="application/gzip"))
    shown = "".join(text for element, text in page.texts if element is None or element.tag not in ("script", "style"))
    assert "\u202e" not in shown and "{{ 7*7 }}" in page.all("title")[0].text
    assert any(HOSTILE[:30] in element.text for element in page.having("data-text-from"))


def test_no_sample_id_is_shown_and_no_client_where_names_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(
        'name = "digits"\n[[timeline]]\nforget = { client = "clinic-7", sample-ids = ["canary-1", "canary-2"] }\n'
    )
    target = {"client": "clinic-7", "sample_ids": ["canary-1", "canary-2"]}
    results = replace(EMPTY, requests=(replace(request("r1", 1), scope="sample", target=target, labels=()),))
    named, nameless = (unpacked(render_report(results, tmp_path, anonymous=anonymous)) for anonymous in (False, True))
    assert "canary" not in named and "canary" not in nameless
    assert "2 ids, not shown" in named
    assert "clinic-7" in named and "clinic-7" not in nameless


def unpacked(html: str) -> str:
    """A page with the specifications that are packed in it."""
    packed = [
        element.text for element in read(html).all("script", type="application/gzip") if "id" not in element.attributes
    ]
    return html + "".join(gzip.decompress(base64.b64decode(text)).decode() for text in packed)


def test_thirty_requests_with_views_fit_three_megabytes(folder: Path) -> None:
    assert len(render_report(many(30), folder).encode()) < 3_000_000


def test_a_page_that_is_served_may_connect_to_its_server_alone(folder: Path) -> None:
    assert "connect-src 'self'" in policy_of(read(render_report(EMPTY, folder, live=True)))


def test_the_report_is_written_into_the_run_folder_or_elsewhere(tmp_path: Path) -> None:
    RESULTS.save(tmp_path)
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert write_report(tmp_path, to=tmp_path / "other.html").read_bytes() == (tmp_path / "report.html").read_bytes()
    with pytest.raises(ResultsError, match="does not exist; the folder of a run was expected"):
        write_report(tmp_path / "nothing")

"""The evaluation inside: the rules' own tests, expressions on hand-made samples, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from api.alerts.evaluation import evaluate
from api.alerts.firing import RuleSet
from api.alerts.promql import QueryError, parse
from api.alerts.series import Scraped, SeriesWindow
from api.alerts.wording import humanize, humanize_duration, humanize_percentage, word_summary
from schemas.alerts import ALERTS, BY_NAME
from tests.unit.rules_cases import cases, run_case


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_the_rules_tests_hold_inside(case: dict[str, Any]) -> None:
    for asked, expected, got in run_case(case):
        assert got == expected, asked


def window(*series: tuple[str, dict[str, str], list[float | None]], every_s: float = 60.0) -> SeriesWindow:
    kept = SeriesWindow({name for name, _, _ in series}, 3600)
    for name, labels, values in series:
        for index, value in enumerate(values):
            if value is not None:
                kept.add(Scraped(name, labels, value), index * every_s)
    return kept


def ask(expression: str, kept: SeriesWindow, time_s: float) -> dict[tuple[tuple[str, str], ...], float]:
    result = evaluate(parse(expression), kept, time_s)
    return {tuple(sorted(labels)): value for labels, value in result.items()}


def test_a_rate_reaches_to_the_edges_of_the_range_and_knows_restarts() -> None:
    # by hand: 5 samples from 60 to 300 s grow by 40, then restart: 10 + 10 lost and found again
    kept = window(("c", {}, [0, 10, 20, 30, 40, 50]))
    assert ask("increase(c[5m])", kept, 300) == {(): 50}
    assert ask("rate(c[5m])", kept, 300)[()] == pytest.approx(50 / 300)
    restarted = window(("c", {}, [0, 10, 20, 5, 15, 25]))
    assert ask("increase(c[5m])", restarted, 300) == {(): 45}
    young = window(("c", {}, [None, None, None, None, 40, 50]))
    # one interval was seen: half an interval is added before it
    assert ask("increase(c[5m])", young, 300)[()] == pytest.approx(10 * (60 + 30) / 60)
    assert ask("increase(c[5m])", window(("c", {}, [None] * 5 + [50])), 300) == {}


def test_sides_match_on_all_their_labels_and_comparisons_keep_the_vector() -> None:
    kept = window(
        ("a", {"x": "1"}, [4]), ("a", {"x": "2"}, [9]), ("b", {"x": "1"}, [2]), ("b", {"x": "3"}, [1])
    )
    one, two = (("x", "1"),), (("x", "2"),)
    assert ask("a / b", kept, 0) == {one: 2}
    assert ask("a > 5", kept, 0) == {two: 9}
    assert ask("5 < a", kept, 0) == {two: 9}
    assert ask("a unless b", kept, 0) == {two: 9}
    assert ask("a and b", kept, 0) == {one: 4}
    assert ask("sum(a) - 1 * 2", kept, 0) == {(): 11}
    assert ask('sum by (x) (a{x!~"1|3"} or b{x="3"})', kept, 0) == {two: 9, (("x", "3"),): 1}
    assert math.isnan(ask("(a - a) / (b - b)", kept, 0)[one])


def test_a_series_that_a_scrape_no_longer_has_is_gone_at_once_and_a_silent_one_after_five_minutes() -> None:
    kept = SeriesWindow({"up", "g"}, 600)
    kept.add_scrape(
        "j", "i", 0, [Scraped("g", {"p": "1"}, 1), Scraped("g", {"p": "2"}, 2), Scraped("h", {}, 1)]
    )
    kept.add_scrape("j", "i", 15, [Scraped("g", {"p": "2"}, 3)])
    assert [dict(labels)["p"] for labels in ask("g", kept, 15)] == ["2"]
    assert ask("h", kept, 15) == {}
    assert ask("up == 1", kept, 15) != {}
    kept.add_scrape("j", "i", 30, None)
    assert ask("g", kept, 30) == {}
    assert list(ask("up == 0", kept, 30).values()) == [0]
    assert ask("up", kept, 329) != {}
    assert ask("up", kept, 331) == {}


def test_samples_are_kept_as_long_as_an_expression_looks() -> None:
    kept = SeriesWindow({"c"}, 600)
    for minute in range(100):
        kept.add_scrape("j", "i", minute * 60.0, [Scraped("c", {}, minute)])
    ((_, samples),) = kept.select("c", lambda _: True)
    assert (len(samples), samples[0].time_s) == (11, 99 * 60 - 600)
    kept.add_scrape("j", "i", 99 * 60 + 3600.0, [])
    assert list(kept.select("c", lambda _: True)) != []  # its end is a sample, too
    kept.add_scrape("j", "i", 99 * 60 + 7201.0, [])
    assert list(kept.select("c", lambda _: True)) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("sum(", "expected word or number or ("),
        ("avg(a)", "avg is not evaluated here"),
        ("rate(a)", "argument 1 of rate is no range"),
        ("a b", "expected an operator or the end"),
        ('a{x="1"', "expected }"),
        ("a > ? 1", "nothing that can be read at character 3"),
        ("histogram_quantile(a, b)", "argument 1 of histogram_quantile is no number"),
    ],
)
def test_what_is_not_known_is_refused_by_name(text: str, what: str) -> None:
    with pytest.raises(QueryError, match=what.replace("(", r"\(")):
        parse(text)


def test_thresholds_are_set_for_alerts_that_have_one() -> None:
    changed = RuleSet(ALERTS, {"RatchetApiSlow": 0.25})
    rule = next(rule for rule in changed.rules if rule.alert.name == "RatchetApiSlow")
    assert rule.node == parse(BY_NAME["RatchetApiSlow"].expression.replace("$threshold", "0.25"))
    with pytest.raises(QueryError, match="there is no alert 'RatchetSlow'"):
        RuleSet(ALERTS, {"RatchetSlow": 1})
    with pytest.raises(QueryError, match="RatchetProcessDown has no threshold"):
        RuleSet(ALERTS, {"RatchetProcessDown": 1})


def test_an_alert_of_before_stays_until_it_can_be_said_that_it_is_over() -> None:
    key = 'RatchetLagOld{topic="interactions"}'
    for seen_again in (False, True):
        rules = RuleSet(ALERTS, {})
        assert rules.take_over(key, 1000.0)
        reach_s = next(rule.reach_s for rule in rules.rules if rule.alert.name == "RatchetLagOld")
        assert list(rules.evaluate(1000.0)) == [key]
        assert list(rules.evaluate(1000.0 + reach_s - 1)) == [key]
        if seen_again:
            line = Scraped("ratchet_stream_lag_seconds", {"topic": "interactions", "partition": "0"}, 900)
            rules.window.add(line, 1000.0 + reach_s)
        raised = rules.evaluate(1000.0 + reach_s)
        assert list(raised) == ([key] if seen_again else [])
        assert all(one.value == 900 for one in raised.values())
    assert not RuleSet(ALERTS, {}).take_over("gone", 0)
    assert not RuleSet(ALERTS, {}).take_over("a {", 0)


def test_a_label_may_hold_anything() -> None:
    rules = RuleSet(ALERTS, {})
    line = Scraped("up", {"job": 'ratchet-"a\\b"', "instance": "x\ny"}, 0)
    for time_s in (0.0, 60.0, 120.0):
        rules.window.add(line, time_s)
        raised = rules.evaluate(time_s)
    (key,) = raised
    again = RuleSet(ALERTS, {})
    assert again.take_over(key, 0.0)
    assert list(again.evaluate(0.0)) == [key]


def test_figures_are_worded_as_prometheus_words_them() -> None:
    assert [humanize(value) for value in (0, 165_000, 12.345678, 0.00123, 1e27)] == [
        "0",
        "165k",
        "12.35",
        "1.23m",
        "1000Y",
    ]
    assert humanize_percentage(0.1234567) == "12.35%"
    assert [humanize_duration(value) for value in (0.25, 8.3333, 59.9, 900, 3661, 90_061, -61)] == [
        "250ms",
        "8.333s",
        "59.9s",
        "15m 0s",
        "1h 1m 1s",
        "1d 1h 1m 1s",
        "-1m 1s",
    ]
    assert word_summary("{{ $labels.a }}{{ $labels.none }} {{ $value }}", {"a": "x"}, 0.5) == "x 0.5"
    for wrong in ("{{ $value | humanise }}", "{{ printf }}"):
        with pytest.raises(QueryError):
            word_summary(wrong, {}, 1)

"""A plain model of the fold: JSON in, dicts and sets, every rule spelled out, nothing fast.

It shares no code with `streams` but the weights of the label model. It answers in the JSON form of
`schemas.episodes.Episode`, and takes its times as the text that is in the records.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from streams.pairs import EVIDENCE, RATER_FACTOR

Json = dict[str, Any]


def expected_episode(values: Iterable[bytes]) -> Json:
    """The episode of these record values, all of one query, in any order and with any repetition."""
    records = list({_key(e): e for e in map(json.loads, values)}.values())
    events, repeats, conflicts = _events(records)
    of = {
        kind: [e for e in events if e["type"] == f"ratchet.{kind}.v1"]
        for kind in (
            "query.asked",
            "retrieval.served",
            "answer.given",
            "feedback.given",
            "feedback.retracted",
        )
    }
    queries, lost_queries = _first_of_each(of["query.asked"], None)
    lists, lost_lists = _first_of_each(of["retrieval.served"], "retrieval_id")
    answers, lost_answers = _first_of_each(of["answer.given"], "answer_id")
    lists.sort(key=lambda e: (_effective(e), e["data"]["retrieval_id"]))
    answers.sort(key=lambda e: (_effective(e), e["data"]["answer_id"]))

    feedback_refs = [_ref(e) for e in of["feedback.given"]]
    present = [_ref(e) for e in events]
    named = [[e["data"]["feedback_source"], e["data"]["feedback_id"]] for e in of["feedback.retracted"]]
    retracted = sorted({(*r,) for r in named if r in feedback_refs or r not in present})
    standing = [e for e in of["feedback.given"] if (*_ref(e),) not in retracted]
    standing.sort(key=lambda e: (_effective(e), _ref(e)))
    feedback = [_feedback(e, lists) for e in standing]

    query = queries[0] if queries else None
    asked = query["data"] if query else {}
    unit, unit_kind = _unit(asked)
    units = {_unit(e["data"])[0] for e in records if e["type"] == "ratchet.query.asked.v1"}
    shown = [e["data"] for e in lists if not e["data"].get("shadow")]
    return {
        "tenant": records[0]["tenant"],
        "query_id": records[0]["subject"],
        "record_count": len(records),
        "query_ref": _ref(query) if query else None,
        "asked_at": _at(query) if query else None,
        "first_received_at": min((e["recordedtime"] for e in records), key=_moment),
        "query_received_at": query["recordedtime"] if query else None,
        "text": asked.get("text", ""),
        "unit": unit,
        "unit_kind": unit_kind,
        "attributes": asked.get("attributes", {}),
        "exposures": asked.get("exposures", []),
        "pipeline_version": shown[-1].get("pipeline_version", "") if shown else "",
        "retrievals": [_retrieval(e) for e in lists],
        "answers": [_answer(e) for e in answers],
        "feedback": feedback,
        "retracted": [list(r) for r in retracted],
        "pairs": _pairs(query, lists, answers, feedback) if query else [],
        "measurements": _measures(shown, [e["data"] for e in answers], feedback) if query else [],
        "repeats": repeats,
        "conflicts": sorted(conflicts),
        "superseded": sorted(_ref(e) for e in lost_queries + lost_lists + lost_answers),
        "former_units": sorted(u for u in units if u is not None and u != unit),
    }


def _key(e: Json) -> tuple[str, ...]:
    return e["tenant"], e["subject"], e["source"], e["id"], e["contenthash"], e["recordedtime"]


def _ref(e: Json) -> list[str]:
    return [e["source"], e["id"]]


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _at(e: Json) -> str:
    received = _moment(e["recordedtime"])
    if "time" not in e:
        return str(e["recordedtime"])
    given = _moment(e["time"])
    too_early = given < received - dt.timedelta(days=7)
    too_late = given > received + dt.timedelta(minutes=5)
    believed = e.get("timetrusted", False) or not (too_early or too_late)
    return str(e["time"] if believed else e["recordedtime"])


def _effective(e: Json) -> dt.datetime:
    return _moment(_at(e))


def _events(records: list[Json]) -> tuple[list[Json], int, list[list[str]]]:
    events, repeats, conflicts = [], 0, []
    for ref in {(*_ref(e),) for e in records}:
        same = [e for e in records if (*_ref(e),) == ref]
        same.sort(key=lambda e: (_moment(e["recordedtime"]), e["contenthash"]))
        event, *others = same
        events.append(event)
        repeats += len([e for e in others if e["contenthash"] == event["contenthash"]])
        conflicts += [_ref(e) for e in others if e["contenthash"] != event["contenthash"]]
    return events, repeats, conflicts


def _first_of_each(events: list[Json], field: str | None) -> tuple[list[Json], list[Json]]:
    first, lost = [], []
    for role in {e["data"][field] if field else "" for e in events}:
        same = [e for e in events if field is None or e["data"][field] == role]
        same.sort(
            key=lambda e: (
                e["data"].get("inferred", False),
                _effective(e) if e["data"].get("inferred") else _moment(e["recordedtime"]),
                e["contenthash"],
                e["source"],
                e["id"],
            )
        )
        first.append(same[0])
        lost += same[1:]
    return first, lost


def _unit(asked: Json) -> tuple[str | None, str]:
    for kind in ("user", "session", "device"):
        if asked.get(kind):
            return asked[kind], kind
    return None, ""


def _retrieval(e: Json) -> Json:
    data = e["data"]
    return {
        "ref": _ref(e),
        "retrieval_id": data["retrieval_id"],
        "at": _at(e),
        "pipeline_version": data.get("pipeline_version", ""),
        "shadow": data.get("shadow", False),
        "exploration": data.get("exploration", False),
        "latency_ms": data.get("latency_ms"),
        "error": data.get("error"),
        "hits": data.get("hits", []),
    }


def _answer(e: Json) -> Json:
    data = e["data"]
    plain = {"text": "", "generator": "", "citations": [], "cached": False}
    empty = ("input_tokens", "output_tokens", "cost_usd", "latency_ms", "error")
    return {
        "ref": _ref(e),
        "answer_id": data["answer_id"],
        "at": _at(e),
        **{name: data.get(name, value) for name, value in plain.items()},
        **{name: data.get(name) for name in empty},
    }


def _feedback(e: Json, lists: list[Json]) -> Json:
    data = e["data"]
    target = data.get("target", {})
    where = _where(target, lists)
    return {
        "ref": _ref(e),
        "at": _at(e),
        "kind": data["kind"],
        "value": data.get("value"),
        "text": data.get("text"),
        "rater": data.get("rater", "human"),
        "name": data.get("name", ""),
        "target": target,
        **{name: where[name] for name in ("document_id", "retrieval_id", "rank", "attribution")},
    }


def _where(target: Json, lists: list[Json]) -> Json:
    """The list, document and rank that a target means; `hit` if the list holds it, shown or not."""
    document, rank, named = target.get("document_id"), target.get("rank"), target.get("retrieval_id")
    nowhere = {"document_id": document or "", "retrieval_id": named or "", "rank": None, "hit": None}
    if document is None and rank is None:
        return {**nowhere, "attribution": ""}
    found: list[Json] = []
    for e in lists:
        shadow = e["data"].get("shadow", False)
        if named is not None and e["data"]["retrieval_id"] != named:
            continue
        if named is None and shadow:
            continue
        hits = e["data"].get("hits", [])
        if document is not None:
            fitting = sorted((h for h in hits if h["document_id"] == document), key=lambda h: h["rank"])
        else:
            fitting = [h for h in hits if h["rank"] == rank]
        if fitting:
            found.append(
                {
                    "document_id": fitting[0]["document_id"],
                    "retrieval_id": e["data"]["retrieval_id"],
                    "rank": None if shadow else fitting[0]["rank"],
                    "hit": fitting[0],
                    "attribution": "not_shown" if shadow else "shown",
                }
            )
    return found[-1] if found else {**nowhere, "attribution": "not_shown"}


def _pairs(query: Json, lists: list[Json], answers: list[Json], feedback: list[Json]) -> list[Json]:
    by_id = {e["data"]["retrieval_id"]: e for e in lists}
    clicks = [f for f in feedback if f["kind"] == "click" and f["attribution"] == "shown"]
    #: (retrieval_id, rank, document_id, kind, label), weight, feedback ref, other refs, hit
    claims: list[tuple[tuple[Any, ...], float, list[str], list[list[str]], Json | None]] = []

    def claim(f: Json, kind: str, label: int, share: float, where: Json, *more: list[str]) -> None:
        weight = EVIDENCE[kind].weight * share * RATER_FACTOR[f["rater"]]
        key = (where["retrieval_id"], where["rank"] or 0, where["document_id"], kind, label)
        claims.append((key, weight, f["ref"], list(more), where["hit"]))

    for f in feedback:
        kind, value = f["kind"], f["value"]
        where = _where(f["target"], lists)
        shown = where["attribution"] == "shown"
        if kind == "thumb" and f["target"].get("kind") == "answer":
            named = f["target"].get("answer_id")
            about = [a for a in answers if named is None or a["data"]["answer_id"] == named]
            if value is not None and value > 0 and about:
                for citation in about[-1]["data"].get("citations", []):
                    spot = {"document_id": citation["document_id"]}
                    if "retrieval_id" in f["target"]:
                        spot["retrieval_id"] = f["target"]["retrieval_id"]
                    cited = _where(spot, lists)
                    if cited["attribution"] == "shown":
                        claim(f, "citation", 1, 1, cited, _ref(about[-1]))
        elif kind in ("click", "copy") and shown:
            claim(f, kind, 1, 1, where)
        elif kind == "dwell" and shown and value is not None and value >= 30:
            claim(f, "dwell", 1, 1, where)
        elif kind == "dwell" and shown and value is not None and value < 5:
            claim(f, "bounce", 0, 1, where)
        elif where["document_id"] and kind == "thumb" and value is not None and value != 0:
            claim(f, "thumb", 1 if value > 0 else 0, 1, where)
        elif where["document_id"] and kind == "label" and value in (0, 1):
            claim(f, "label", int(value), 1, where)
        elif where["document_id"] and kind == "stars" and value is not None and value != 3:
            claim(f, "stars", 1 if value > 3 else 0, 1 if value in (1, 5) else 0.5, where)

    for f in clicks:
        same_list = [c for c in clicks if c["retrieval_id"] == f["retrieval_id"]]
        if f["rank"] == max(c["rank"] for c in same_list):
            for hit in by_id[f["retrieval_id"]]["data"]["hits"]:
                clicked = [c for c in clicks if c["document_id"] == hit["document_id"]]
                if hit["rank"] < f["rank"] and not clicked:
                    where = {
                        "retrieval_id": f["retrieval_id"],
                        "rank": hit["rank"],
                        "document_id": hit["document_id"],
                        "hit": hit,
                    }
                    claim(f, "skip", 0, 1, where)

    pairs = []
    for key in sorted({c[0] for c in claims}):
        retrieval_id, rank, document_id, kind, label = key
        same = [c for c in claims if c[0] == key]
        retrieval = by_id.get(retrieval_id)
        hit = same[0][4]
        refs = sorted({(*c[2],) for c in same})
        more = sorted({(*ref,) for c in same for ref in c[3]})
        lists_of = [_ref(retrieval)] if retrieval else []
        pairs.append(
            {
                "query": query["data"]["text"],
                "document_id": document_id,
                "text_hash": hit.get("text_hash") if hit else None,
                "label": label,
                "weight": max(c[1] for c in same),
                "kind": kind,
                "retrieval_id": retrieval_id,
                "pipeline_version": retrieval["data"].get("pipeline_version", "") if retrieval else "",
                "rank": rank,
                "propensity": hit.get("propensity") if hit and rank else None,
                "events": [*map(list, refs), *lists_of, *map(list, more), _ref(query)],
            }
        )
    return pairs


def _measures(shown: list[Json], answers: list[Json], feedback: list[Json]) -> list[list[Any] | Json]:
    people = [f for f in feedback if f["rater"] == "human"]

    def values(kind: str) -> list[float]:
        return [f["value"] for f in people if f["kind"] == kind and f["value"] is not None]

    clicks = [f for f in people if f["kind"] == "click"]
    ranks = [f["rank"] for f in clicks if f["rank"] is not None]
    served = shown[-1] if shown else {}
    measures: dict[str, Any] = {
        "queries": 1,
        "retrievals": len(shown),
        "retrieval_errors": len([r for r in shown if r.get("error") is not None]),
        "zero_hits": int(not served.get("hits") and served.get("error") is None) if shown else None,
        "clicks": len(clicks),
        "clicked": min(1, len(clicks)),
        "reciprocal_rank": (1 / min(ranks) if ranks else 0) if shown else None,
        "copies": len([f for f in people if f["kind"] == "copy"]),
        "thumbs_up": len([v for v in values("thumb") if v > 0]),
        "thumbs_down": len([v for v in values("thumb") if v < 0]),
        "answers": len(answers),
        "answer_errors": len([a for a in answers if a.get("error") is not None]),
        "abandoned": int(any(f["kind"] == "abandonment" for f in people)),
        "reformulated": int(any(f["kind"] == "follow_up" for f in people)),
        "dwell_s": sum(values("dwell")) if values("dwell") else None,
        "stars": sum(values("stars")) / len(values("stars")) if values("stars") else None,
        "retrieval_latency_ms": served.get("latency_ms"),
        "answer_latency_ms": answers[-1].get("latency_ms") if answers else None,
    }
    costs = [a["cost_usd"] for a in answers if "cost_usd" in a]
    measures["answer_cost_usd"] = sum(costs) if costs else None
    return [{"measure": name, "value": value} for name, value in measures.items() if value is not None]

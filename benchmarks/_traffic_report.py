"""What was counted in the programs of training steps, beside the model: tables, claims, figures."""

import dataclasses
from collections.abc import Iterable

from benchmarks._text_table import table
from benchmarks._traffic_account import Flow
from benchmarks._traffic_measured import Measured

TOLERANCE = 0.05
"""How far the program may be from the model."""


def report(cases: Iterable[Measured]) -> dict[str, object]:
    """Prints what was counted beside the model, case by case, and gives the figures.

    Args:
      cases: with ams and ps_server on a float32 wire among them.
    """
    found: dict[tuple[str, str], Measured] = {}
    for one in cases:
        found[one.strategy, one.wire] = one
        print(f"measured {one.strategy} on wire {one.wire}", flush=True)
    print(f"\n{_beside_model(list(found.values()))}\n\n{_per_image(found)}", end="\n\n")
    worst = max(_agreements(found.values()), key=lambda ratio: abs(ratio - 1))
    against, ours = (found[name, "float32"].images for name in ("ps_server", "ams"))
    saved = against.per_row.vectors / ours.per_row.vectors
    with_keys = against.per_row.all / ours.per_row.all
    verdict = "holds" if abs(worst - 1) <= TOLERANCE else "DOES NOT HOLD"
    print(
        f"program within {TOLERANCE:.0%} of the model: {verdict}, at most {abs(worst - 1):.2%} off"
    )
    print(f"ps_server sends {saved:.2f} times an image's bytes, {with_keys:.2f} with row numbers")
    return {
        "ratio_images": round(saved, 2),
        "ratio_images_with_keys": round(with_keys, 2),
        "ratio_images_with_keys_and_padding": round(against.counted.all / ours.counted.all, 2),
        "worst_agreement": round(worst, 5),
        "cases": {f"{one.strategy}/{one.wire}": _figures(one) for one in found.values()},
    }


def _agreements(cases: Iterable[Measured]) -> list[float]:
    """Program over model, wherever something is sent."""
    flows = [flow for one in cases for flow in (one.images, one.ids)]
    return [flow.agreement for flow in flows if flow.agreement is not None]


def _beside_model(cases: list[Measured]) -> str:
    """Every flow of every case: rows, the model's bytes and the program's."""
    title = f"{cases[0].impressions:,} impressions"
    rows = [[title, "asked for", "model", "at home", "program", "padding", "program/model"]]
    for one in cases:
        for kind, flow in (("images", one.images), ("IDs", one.ids)):
            bytes_of = (flow.model, flow.at_home, flow.counted, flow.padding)
            ratio = "" if flow.agreement is None else f"{flow.agreement:.4f}"
            rows.append(
                [
                    f"{one.strategy} {one.wire}, {kind}",
                    f"{flow.rows.listed:,}",
                    *(f"{size.all:,.0f}" for size in bytes_of),
                    ratio,
                ]
            )
        name = f"{one.strategy} {one.wire}, dense gradient"
        ratio = f"{one.dense / one.model_dense:.4f}"
        rows.append([name, "", f"{one.model_dense:,.0f}", "", f"{one.dense:,.0f}", "", ratio])
    return table(rows)


def _per_image(found: dict[tuple[str, str], Measured]) -> str:
    """Bytes of an image that travels, padding left out, and how many times more ps_server sends."""
    against = found["ps_server", "float32"].images.per_row
    rows = [
        ["bytes of an image", "vectors or content", "row numbers", "ps_server/this", "with both"]
    ]
    for (strategy, wire), one in found.items():
        spent = one.images.per_row
        if spent.all:
            ratios = against.vectors / spent.vectors, against.all / spent.all
            cells = [f"{size:.2f}" for size in (spent.vectors, spent.keys, *ratios)]
            rows.append([f"{strategy} {wire}", *cells])
    return table(rows)


def _figures(one: Measured) -> dict[str, object]:
    def of(flow: Flow) -> dict[str, object]:
        return {
            **dataclasses.asdict(flow.rows),
            "model": round(flow.model.all),
            "at_home": round(flow.at_home.all),
            "program": round(flow.counted.all),
            "program_vectors": round(flow.counted.vectors),
            "program_keys": round(flow.counted.keys),
            "padding": round(flow.padding.all),
            "agreement": None if flow.agreement is None else round(flow.agreement, 5),
            "vector_bytes_per_row": round(flow.per_row.vectors, 3),
            "key_bytes_per_row": round(flow.per_row.keys, 3),
        }

    dense = {"model": round(one.model_dense), "program": round(one.dense)}
    return {"images": of(one.images), "ids": of(one.ids), "dense": dense}

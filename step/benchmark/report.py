"""What the benchmark writes: one row per cell as CSV and JSON, tables, and pictures."""

import csv
import io
import math
from typing import Any

import numpy as np

from misc.workspace import atomic_write, write_json
from step.benchmark.plots import Curve, write_class_bars, write_curves, write_heat_map
from step.benchmark.rows import (
    Results,
    best_rows,
    cell_rows,
    published_rows,
    sbe_rows,
    seed_averages,
)
from step.benchmark.sets import NO_SALIENCY, SALIENT_WALK
from step.common.scores import percent
from step.common.table import table, table_of_known
from voc12.published_sets import SCORES_OF

COLUMNS = (
    "method", "cam", "saliency", "act_thres", "sal_thres", "ignore", "seed", "miou", "miou_strict",
    "ignored", "miou_chosen", "miou_crf", "miou_chosen_crf", "std",
)  # fmt: skip


def write_report(results: Results) -> None:
    """Write `benchmark.csv`, `benchmark.json` and the pictures, as PNG and SVG."""
    folder = results.sets.folder
    sbe = list(sbe_rows(results))
    rows = [*cell_rows(results), *sbe, *published_rows(results)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rounded(row) for row in rows)
    with atomic_write(folder / "benchmark.csv") as file:
        file.write(text.getvalue().encode())
    best = best_rows(results)
    content = {
        "rows": rows,
        "best": best,
        "sbe_over_seeds": seed_averages(sbe),
        "saliency": results.saliency,
        "published_scores_are": SCORES_OF,
        "images": len(results.sets.evaluated),
        "settings": results.sets.run.config.to_dict(),
    }
    write_json(folder / "benchmark.json", _plain(content))
    _write_pictures(results, [row for row in best if not row["ignore"]])


def _write_pictures(results: Results, best: list[dict[str, Any]]) -> None:
    folder = results.sets.folder
    cams = [each.name for each in results.sets.cams]
    saliency = [each.name for each in results.sets.saliency]
    miou = {(row["cam"], row["saliency"]): row["miou"] for row in best}
    values = np.array([[miou[cam, sal] for sal in saliency] for cam in cams])
    write_heat_map(folder / "heat_map", cams, saliency, values)
    write_curves(folder / "thresholds", [_curve(results, cam) for cam in cams])
    shown = {cam: max(best, key=lambda row: (row["cam"] == cam, row["miou"])) for cam in cams}
    bars = {f"{cam} x {row['saliency']}": row["iou"] for cam, row in shown.items()}
    write_class_bars(folder / "classes", bars)


def _curve(results: Results, cam: str) -> Curve:
    """Best mIoU over saliency thresholds at each activation threshold, for each saliency set."""
    thresholds = sorted(results.sets.run.setting("benchmark_act_thres"))
    lines = {}
    for (name, saliency), scores in results.evaluated.items():
        if name == cam:
            at = dict.fromkeys(thresholds, -1.0)
            for place in scores.indices(ignore=False):
                thres = scores.cells[place].act_thres
                at[thres] = max(at[thres], float(np.nan_to_num(scores.miou[place])))
            lines[saliency] = [at[thres] for thres in thresholds]
    none = lines.pop(NO_SALIENCY, None)
    return Curve(cam, thresholds, lines, none)


def report_text(results: Results) -> str:
    """The tables for the terminal, in percent."""
    return "\n\n".join(filter(None, (_pair_table(results), _saliency_table(results))))


def _pair_table(results: Results) -> str:
    best = {(row["cam"], row["saliency"], row["ignore"]): row for row in best_rows(results)}
    averages = seed_averages(list(sbe_rows(results)))
    walks = {(r["cam"], r["saliency"]): r for r in averages if r["method"] == SALIENT_WALK}
    sbe = {(r["cam"], r["saliency"]): r for r in averages if r["method"] != SALIENT_WALK}
    theirs = {(row["cam"], row["saliency"]): row for row in published_rows(results)}
    header = [
        "CAMs", "saliency", "act", "sal", "mIoU", "of chosen", "ignoring: mIoU", "as wrong",
        "ignored", "loss, others' thresholds", "loss, train part's", "SBE/BES", "after CRF",
        "salient walk", "its CRF", "published*",
    ]  # fmt: skip
    rows = []
    winner = results.best_pair()
    for key in results.evaluated:
        row, ignoring = best[key[0], key[1], False], best.get((key[0], key[1], True))
        losses = [each["loss"] for each in row["loss_by_thresholds_of"]]
        lost = (
            f"{percent(float(np.mean(losses)))} (worst {percent(max(losses))})" if losses else "-"
        )
        part = row.get("chosen_on_train_part")
        rows.append([
            key[0] + (" <- best" if key == winner else ""),
            key[1],
            f"{row['act_thres']:g}",
            "-" if row["sal_thres"] is None else f"{row['sal_thres']:g}",
            percent(row["miou"]),
            percent(row["miou_chosen"]),
            "-" if ignoring is None else percent(ignoring["miou"]),
            "-" if ignoring is None else percent(ignoring["miou_strict"]),
            "-" if ignoring is None else percent(ignoring["ignored"]),
            lost,
            "-" if part is None else percent(part["loss"]),
            *(_with_spread(sbe.get(key), name) for name in ("miou", "miou_crf")),
            *(_with_spread(walks.get(key), name) for name in ("miou", "miou_crf")),
            percent(theirs[key]["miou"]) if key in theirs else "-",
        ])  # fmt: skip
    note = f"* {SCORES_OF}"
    lines = [f"WSSS-BED masks at their best thresholds, {len(results.sets.evaluated)} images"]
    lines.append(table_of_known(header, rows))
    return "\n".join([*lines, note] if theirs else lines)


def _with_spread(row: dict[str, Any] | None, name: str) -> str:
    if row is None or row[name] is None:
        return "-"
    deviation = row[f"{name}_std"]
    return percent(row[name]) + ("" if deviation is None else f" +- {percent(deviation)}")


def _saliency_table(results: Results) -> str:
    if not results.saliency:
        return ""
    header = ["saliency maps alone", "MAE", "max F", "IoU at .5", "max IoU", "at"]
    rows = [
        [name, f"{found['mae']:.3f}", percent(found["max_f"]), percent(found["iou_half"]),
         percent(found["max_iou"]), f"{found['max_iou_level'] / 255:.2f}"]
        for name, found in results.saliency.items()
    ]  # fmt: skip
    return table(header, rows)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    plain = _plain(row)
    return {k: round(value, 6) if isinstance(value, float) else value for k, value in plain.items()}


def _plain(value: Any) -> Any:
    """`value` as strict JSON holds it: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value

"""Reports of `segue bench --report`: figures as JSON, two pictures, and a page that holds all.

The pictures need matplotlib, which nothing else here does.
"""

from __future__ import annotations

import base64
import html
import importlib.util
from pathlib import Path
from typing import Any

from . import bench_classes, report
from .modelfile import UserError

Record = dict[str, Any]

COLOURS = {"segue": "#c2410c", "eager": "#334155"}
OTHER = "#94a3b8"


def demand() -> None:
    """Refuses early what could not be drawn late."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(
            "--report draws with matplotlib, which is not installed here "
            "(pip install matplotlib, or leave --report out)."
        )


def write(folder: Path, records: list[Record], titles: dict[str, str]) -> None:
    """results.json, times.png, roofline.png and index.html."""
    report.write_json(folder / "results.json", records)
    bars(folder / "times.png", records, titles)
    roofline(folder / "roofline.png", records)
    page = html_page(records, titles, [folder / "times.png", folder / "roofline.png"])
    (folder / "index.html").write_text(page, encoding="utf-8")


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def bars(path: Path, records: list[Record], titles: dict[str, str]) -> None:
    """One panel a model: milliseconds of every subject, the floor as a line."""
    pyplot = _pyplot()
    height = 0.8 + 0.32 * max(len(r["subjects"]) for r in records)
    figure, panels = pyplot.subplots(
        len(records), 1, figsize=(9, height * len(records)), squeeze=False
    )
    for panel, record in zip(panels[:, 0], records, strict=True):
        names = [n for n in titles if n in record["subjects"]][::-1]
        values = [record["subjects"][n]["ms"] for n in names]
        labels = [titles[n] for n in names]
        drawn = panel.barh(labels, values, color=[COLOURS.get(n, OTHER) for n in names])
        panel.bar_label(drawn, [f" {v:.3g} ms" for v in values], fontsize=8)
        panel.axvline(record["floor_ms"], color="black", linewidth=1, linestyle=":")
        panel.set_title(f"{record['model']} ({record['precision']})", loc="left", fontsize=10)
        panel.set_xlim(0, 1.15 * max(values))
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("ms a call; dotted: the floor", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def roofline(path: Path, records: list[Record]) -> None:
    """Operations a second over operations a byte, under the ceilings of the card."""
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(9, 5.5))
    ceilings = records[0]["ceilings"]
    intensities = [r["flops"] / r["bytes"] for r in records]
    left, right = min(intensities) / 8, max(max(intensities) * 8, 1000)
    for name, label in (("half", "fp16"), ("tf32", "tf32"), ("fp32", "fp32")):
        rate = ceilings[name]
        knee = rate / ceilings["bandwidth"]
        panel.plot([left, knee, right], [left * ceilings["bandwidth"], rate, rate], color=OTHER)
        panel.annotate(f"{label} {rate / 1e12:.0f} Tflop/s", (right, rate), ha="right",
                       va="bottom", fontsize=8)  # fmt: skip
    for mark, record, x in zip("osD^vP*X" * len(records), records, intensities, strict=False):
        for name in ("eager", "segue"):
            y = record["flops"] / (record["subjects"][name]["ms"] * 1e-3)
            known = record["model"] if name == "segue" else None
            panel.plot(x, y, mark, color=COLOURS[name], label=known, markersize=8)
    panel.set(xscale="log", yscale="log", xlabel="operations a byte of inputs and outputs",
              ylabel="operations a second")  # fmt: skip
    panel.set_title(
        f"{records[0]['gpu']}: Segue (orange) and eager (grey) under a copy's "
        f"{ceilings['bandwidth'] / 1e12:.2f} TB/s and the rates of products",
        fontsize=9,
        loc="left",
    )
    panel.legend(fontsize=8, loc="lower right")
    panel.grid(visible=True, which="major", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1e293b }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e2e8f0 }
th:first-child, td:first-child { text-align: left }
tr.segue { font-weight: 600; color: #c2410c }
img { max-width: 100% }
"""


def html_page(records: list[Record], titles: dict[str, str], images: list[Path]) -> str:
    """A page with everything inside, pictures too."""
    first = records[0]
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items() if v)
    about = f"{first['gpu']}; commit {first['commit'] or 'unknown'}; {versions}"
    body = [
        "<h1>Segue against PyTorch</h1>",
        f"<p>{html.escape(about)}</p>",
        "<h2>Milliseconds a call, and how many times faster Segue is</h2>",
        _times(records, titles),
        *_by_class(records),
        "<h2>Numbers, memory, host</h2>",
        _details(records),
    ]
    for image in images:
        data = base64.b64encode(image.read_bytes()).decode("ascii")
        body.append(f'<p><img alt="{image.stem}" src="data:image/png;base64,{data}"></p>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Segue on {html.escape(str(first['gpu']))}</title><style>{STYLE}</style></head>\n"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _row(cells: list[str], tag: str = "td", kind: str = "") -> str:
    inner = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells)
    return f'<tr class="{kind}">{inner}</tr>'


def _times(records: list[Record], titles: dict[str, str]) -> str:
    rows = [_row(["", *(r["model"] for r in records)], "th")]
    for name, label in titles.items():
        cells = [report.subject(name, r["subjects"].get(name)) for r in records]
        rows.append(_row([label, *cells], kind=name))
    rows.append(_row(["floor", *(report.number(r["floor_ms"]) for r in records)]))
    return f"<table>{''.join(rows)}</table>"


def _by_class(records: list[Record]) -> list[str]:
    """The table of classes, where there is one."""
    rows = bench_classes.rows(records)
    if not rows:
        return []
    heads = _row(["", *(r["model"] for r in records), "geometric mean"], "th")
    lines = "".join(_row(cells) for cells in rows)
    return ["<h2>By class of numbers</h2>", f"<table>{heads}{lines}</table>"]


def _details(records: list[Record]) -> str:
    lines = {
        "class of numbers": lambda r: r["precision"],
        "correct": lambda r: "yes" if r["correct"] else "no",
        "largest difference from eager": lambda r: report.number(r["max_abs_diff_eager"], 2),
        "error against float64": lambda r: report.number(r["rel_err_fp64"], 2),
        "eager's error": lambda r: report.number(r["rel_err_fp64_eager"], 2),
        "extra MB": lambda r: report.number(r["subjects"]["segue"]["extra_mb"], 2),
        "eager's extra MB": lambda r: report.number(r["subjects"]["eager"]["extra_mb"], 2),
        "host us": lambda r: report.number(r["subjects"]["segue"]["host_us"], 2),
        "eager's host us": lambda r: report.number(r["subjects"]["eager"]["host_us"], 2),
        "build s": lambda r: report.number(r["build_s"], 2),
        "build s, from the cache": lambda r: report.number(r["cached_build_s"], 2),
    }
    rows = [_row(["", *(r["model"] for r in records)], "th")]
    rows += [_row([label, *(get(r) for r in records)]) for label, get in lines.items()]
    return f"<table>{''.join(rows)}</table>"

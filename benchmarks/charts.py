"""Bar charts as SVG by hand: nothing to install, readable on a light and on a dark page."""

from html import escape

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .peer { fill: #8c959f } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } .peer { fill: #6e7681 } .ours { fill: #58a6ff } }"""
LEFT, RIGHT, ROW, TOP, WIDTH = 340, 90, 26, 40, 830


def bars(title: str, rows: list[tuple[str, float | None]]) -> str:
    """Return a chart of one bar per row, shortest is best; a row without a figure says so."""
    longest = max((value for _, value in rows if value is not None), default=1.0)
    height = TOP + ROW * len(rows) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(title)} (less is better)</text>',
    ]
    for number, (label, value) in enumerate(rows):
        top = TOP + ROW * number
        kind = "ours" if label.startswith("Cliffracer") else "peer"
        length = 0 if value is None else (WIDTH - LEFT - RIGHT) * value / longest
        shown = "failed or absent" if value is None else f"{value:.1f}"
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{top + 3}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{top + 16}">{shown}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])

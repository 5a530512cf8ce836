"""Parts of a page that stands alone: inline style, pictures as data, no script; text is escaped unless it is `Html`."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: #1e293b; background: #f8fafc; margin: 0 auto; padding: 1rem;
  max-width: 50rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: .5rem 0 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem }
p, ul { margin: .3rem 0 } ul { padding-left: 1.2rem } .quiet { color: #64748b; font-size: .875rem }
.verdict { border-left: .4rem solid; border-radius: .3rem; padding: .7rem 1rem; margin: 1rem 0; background: #fff }
.verdict strong { font-size: 1.1rem }
.ok { border-color: #0f766e } .warn { border-color: #d97706 } .stop { border-color: #b91c1c }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0 }
.tile { flex: 1 1 7rem; background: #fff; border: 1px solid #e2e8f0; border-radius: .4rem; padding: .5rem .7rem }
.tile b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums } .tile span { font-size: .8rem }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid #e2e8f0; border-radius: .4rem }
.wide { overflow-x: auto; overflow-wrap: normal } table { border-collapse: collapse; font-size: .875rem; width: 100% }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e2e8f0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
caption { text-align: left; color: #64748b; padding: .3rem 0 } tbody th { font-weight: inherit }
""".strip()
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Markup that may stand in a page as it is: whatever of it came from data was escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """The value as markup: escaped, unless it is markup already."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def document(title: str, said: str, body: Iterable[str], style: str = "") -> str:
    """A whole page: the title in the head, `said` beside it; `body` is markup, `style` is added to the house's own."""
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)} {text(said)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}{style}</style></head><body>',
        *body,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def picture(title: str, png: bytes, says: str = "", heading: str = "h2") -> Html:
    """A headed picture; `says` tells those who cannot see it what it shows, by default the title."""
    data = base64.b64encode(png).decode("ascii")
    return Html(
        f'<{heading}>{text(title)}</{heading}><img alt="{text(says or title)}" src="data:image/png;base64,{data}">'
    )


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    numbers_from: int | None = None,
    *,
    caption: object = "",
    row_heads: bool = False,
) -> Html:
    """A table that scrolls sideways where it is wider than the page.

    Columns from `numbers_from` on are numbers, set to the right; with `row_heads` the first cell names its row.
    """
    kinds = [' class="n"' if numbers_from is not None and place >= numbers_from else "" for place in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{text(cell)}</th>' for kind, cell in zip(kinds, head, strict=True))
    body = "\n".join("<tr>" + "".join(_cells(row, kinds, row_heads)) + "</tr>" for row in rows)
    named = f"<caption>{text(caption)}</caption>" if caption else ""
    return Html(f'<div class="wide"><table>{named}<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>')


def _cells(row: Sequence[object], kinds: Sequence[str], row_heads: bool) -> Iterable[str]:
    for place, (kind, cell) in enumerate(zip(kinds, row, strict=True)):
        if row_heads and place == 0:
            yield f'<th scope="row">{text(cell)}</th>'
        else:
            yield f"<td{kind}>{text(cell)}</td>"


def bullets(entries: Iterable[object]) -> Html:
    """A list of points."""
    return Html("<ul>" + "".join(f"<li>{text(entry)}</li>" for entry in entries) + "</ul>")


def tiles(values: Iterable[tuple[object, object]]) -> Html:
    """Numbers to be seen at once, as (name, value)."""
    shown = "".join(f'<div class="tile"><b>{text(value)}</b><span>{text(name)}</span></div>' for name, value in values)
    return Html(f'<div class="tiles">{shown}</div>')


def details(summary: object, body: Iterable[str], is_open: bool = False) -> Html:
    """What is seen when its summary is pressed; `body` is markup."""
    return Html(f"<details{' open' if is_open else ''}><summary>{text(summary)}</summary>{''.join(body)}</details>")


def section(anchor: str, title: object, body: Iterable[str]) -> Html:
    """A headed part of the page that `#anchor` leads to; `body` is markup."""
    return Html("\n".join([f'<section id="{text(anchor)}"><h2>{text(title)}</h2>', *body, "</section>"]))


def quiet(note: object) -> Html:
    """A remark in small letters."""
    return Html(f'<p class="quiet">{text(note)}</p>')

"""Sections as a page of its own: one file without scripts, links to elsewhere or anything that is loaded.

So it reads the same from a disk, in a mail and in MLflow's artifact view, which shows it in a frame.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

from pcc_pipeline.data.labels import one_line
from pcc_pipeline.evaluation.page.blocks import (
    Amount,
    Block,
    Bullets,
    Cell,
    Code,
    Paragraph,
    Picture,
    Range,
    Section,
    Table,
    Tiles,
    Verdict,
)

# What a browser may do with the page, should it ever hold more than it should: show its own styles and pictures.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_BAR_WIDTH, _BAR_HEIGHT = 120, 12
_FEW_COLUMNS = 6

_STYLE = """
:root{color-scheme:light;--text:#1f2933;--soft:#52606d;--line:#d3dae1;--back:#fff;--paper:#fff;
--raised:#f4f6f8;--blue:#0072b2;
--good:#00614a;--good-back:#e3f4ee;--bad:#a33b00;--bad-back:#fdeee4;--open:#5a4a00;--open-back:#fdf6d8}
@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;--text:#e4e9ee;--soft:#a5b1bd;--line:#3a444f;
--back:#14191f;--paper:#cfd6de;--raised:#1f262e;--blue:#5cb3e8;
--good:#6fdcb6;--good-back:#12352a;--bad:#ffa26e;--bad-back:#402012;
--open:#f0d873;--open-back:#38310f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.5rem 1.25rem 4rem;background:var(--back);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--line)}
p,ul{margin:.6rem 0;max-width:48rem;overflow-wrap:anywhere}li{margin:.25rem 0}
.soft{color:var(--soft)}
nav{margin:1rem 0 0;font-size:.9rem;line-height:2}nav a{color:var(--blue);margin-right:1rem;white-space:nowrap}
label{cursor:pointer}section{position:relative}
.place{position:absolute;top:0;left:0;width:1px;height:1px;margin:0;opacity:0;appearance:none;
scroll-margin:0 0 85vh}
code{display:block;background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem;
font:.85rem/1.5 ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tone{padding:.7rem 1rem;border-left:4px solid;border-radius:4px;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--open)}
p.good{background:var(--good-back)}p.bad{background:var(--bad-back)}p.open{background:var(--open-back)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}
.tile{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.tile b{display:block;font-size:1.55rem;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.85rem;color:var(--soft);overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.32rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:600}thead th{vertical-align:bottom}
td:first-child,tbody th{overflow-wrap:anywhere;min-width:7.5rem;unicode-bidi:isolate}
.many td.word{min-width:5rem}.many td.word,.many td:first-child{overflow-wrap:break-word}
.many th,.many td{padding:.32rem .5rem}.many th.number{white-space:normal}
tbody th{white-space:nowrap}td.word{min-width:8rem;overflow-wrap:anywhere}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td .good,td .bad,td .open{font-weight:600;white-space:nowrap}
td svg{vertical-align:middle;margin-left:.6rem}.track{fill:var(--line)}.span{fill:var(--blue);opacity:.45}
.mark{fill:var(--blue)}
figure{margin:1rem 0}
.card{max-width:44rem;background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:.5rem;
isolation:isolate}
.card img{display:block;width:100%;height:auto;mix-blend-mode:multiply}
figcaption{font-size:.85rem;color:var(--soft);max-width:48rem;margin-top:.3rem}
@media (max-width:40rem){body{padding:1rem .8rem 3rem;font-size:15px}h1{font-size:1.35rem}
.tiles{grid-template-columns:repeat(2,1fr)}.tile b{font-size:1.3rem}td svg{display:none}th,td{padding:.3rem .45rem}
tbody th{white-space:normal;min-width:5.5rem}
.many thead{display:none}.many,.many tbody,.many tr,.many td{display:block}.many tr{padding:.5rem 0;
border-bottom:1px solid var(--line)}.many td{display:flex;justify-content:space-between;gap:1rem;border:0;
text-align:right}.many td:first-child{font-weight:600}.many td:empty{display:none}
.number,td .good,td .bad,td .open{white-space:normal}
.many td::before{content:attr(data-name);color:var(--soft);font-weight:400;text-align:left;flex:none}
nav{white-space:nowrap;overflow-x:auto}}
@media print{@page{margin:15mm}body{max-width:none;padding:0;font-size:10pt}nav,.place{display:none}
.wide{overflow:visible}table{font-size:8pt}th,td{padding:.2rem .35rem}td svg{display:none}
.number,td .open{white-space:normal}tbody th{white-space:normal}thead{display:table-header-group}
tr,figure,.tile,p{break-inside:avoid}h2{break-after:avoid}
.card{padding:0;border:0}.card img{width:auto;max-width:100%;max-height:200mm}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def to_html(title: str, subtitle: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The page.

    In the dark a figure, drawn on white, stands on a card that its white takes the grey of.

    Args:
        pictures: file stem -> PNG; a figure that is not among them is left out.
    """
    # In a frame as MLflow's, whose page is a blob without an origin, a browser forbids links within the page. There a
    # label may bring the field that it belongs to into view; elsewhere, and by keyboard, the link works.
    links = "".join(
        f'<a href="#{_text(part.name)}"><label for="to-{_text(part.name)}">{_text(part.title)}</label></a> '
        for part in sections
    )
    body = "\n".join(
        f'<section id="{_text(part.name)}">'
        f'<input class="place" id="to-{_text(part.name)}" type="radio" tabindex="-1" aria-hidden="true">'
        f"<h2>{_text(part.title)}</h2>\n" + "\n".join(_block(block, pictures) for block in part.blocks) + "\n</section>"
        for part in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><title>{_text(title)}</title><style>{_STYLE}</style></head>\n'
        f'<body><h1>{_text(title)}</h1>\n<p class="soft">{_text(subtitle)}</p>\n<nav>{links}</nav>\n{body}\n'
        "</body></html>\n"
    )


def _text(text: str) -> str:
    """Any text as HTML that shows it, on one line; every text of the page goes through here."""
    return html.escape(one_line(text))


def _block(block: Block, pictures: Mapping[str, bytes]) -> str:
    match block:
        case Paragraph(text, tone):
            return f"<p>{_text(text)}</p>" if tone is None else f'<p class="tone {tone}">{_text(text)}</p>'
        case Code(text):
            return f"<code>{_text(text)}</code>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        case Tiles(tiles):
            boxes = [
                f'<div class="tile"><span>{_text(tile.title)}</span><b>{_text(tile.value)}</b>'
                f"<span>{_text(tile.detail)}</span></div>"
                for tile in tiles
            ]
            return f'<div class="tiles">{"".join(boxes)}</div>'
        case Table():
            return _table(block)
        case Picture(stem, shows):
            if stem not in pictures:
                return ""
            data = base64.b64encode(pictures[stem]).decode("ascii")
            caption = _text(shows)
            return (
                f'<figure><div class="card"><img src="data:image/png;base64,{data}" alt="{caption}"></div>'
                f"<figcaption>{caption}</figcaption></figure>"
            )


def _table(table: Table) -> str:
    head = "".join(f"<th{_kind(place, table.words)}>{_text(name)}</th>" for place, name in enumerate(table.columns))
    # Of more columns than a telephone is wide, it shows each row as a list with their names.
    many = len(table.columns) > _FEW_COLUMNS
    heads = [f' data-name="{_text(name)}"' for name in table.columns]
    rows = []
    for row in table.rows:
        cells = [
            f"<td{_kind(place, table.words)}{heads[place] if many else ''}>{_cell(cell)}</td>"
            for place, cell in enumerate(row)
        ]
        if not table.columns:
            cells[0] = f'<th scope="row">{_cell(row[0])}</th>'
        rows.append(f"<tr>{''.join(cells)}</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if table.columns else ""
    kind = ' class="many"' if many else ""
    return f'<div class="wide"><table{kind}>{top}<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>'


def _kind(place: int, words: int) -> str:
    return ' class="number"' if place >= words else ' class="word"' if place else ""


def _cell(cell: Cell) -> str:
    match cell:
        case str():
            return _text(cell)
        case Verdict(word, tone):
            return f'<span class="{tone}">{_text(word)}</span>'
        case Range(value, low, high):
            return f"{_text(cell.text)}{_bar(value, low, high)}"
        case Amount(text, share):
            return f"{_text(text)}{_length(share)}"


def _length(share: float) -> str:
    """A bar of a share of the widest one."""
    width = round(max(share, 0.0) * _BAR_WIDTH, 1)
    return (
        f'<svg width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" aria-hidden="true">'
        f'<rect class="mark" x="0" y="2" width="{width:g}" height="8"/></svg>'
    )


def _bar(value: float, low: float, high: float) -> str:
    """The interval on a line from 0 to 1, with a mark at the value."""
    start, width, mark = (round(share * _BAR_WIDTH, 1) for share in (low, high - low, value))
    middle = _BAR_HEIGHT / 2
    return (
        f'<svg width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" aria-hidden="true">'
        f'<rect class="track" x="0" y="{middle - 0.5:g}" width="{_BAR_WIDTH}" height="1"/>'
        f'<rect class="span" x="{start:g}" y="3" width="{max(width, 1):g}" height="6"/>'
        f'<rect class="mark" x="{mark - 1:g}" y="1" width="2" height="10"/></svg>'
    )

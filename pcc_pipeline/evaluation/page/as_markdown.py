"""Sections as Markdown, as a model card has them: without figures."""

from __future__ import annotations

import html
from collections.abc import Sequence

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


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """A document with a heading for each section."""
    parts = [f"# {marked(title)}"]
    for section in sections:
        parts.append(f"## {marked(section.title)}")
        parts += [text for text in map(_block, section.blocks) if text]
    return "\n\n".join(parts) + "\n"


def marked(text: str) -> str:
    """Any text as one line of Markdown that reads as it is."""
    # Escaped as HTML too, which Markdown lets through.
    safe = html.escape(one_line(text), quote=False)
    for mark in "\\|*_`[]":
        safe = safe.replace(mark, f"\\{mark}")
    return safe


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, tone):
            return marked(text) if tone is None else f"**{marked(text)}**"
        case Code(text):
            return f"`{one_line(text).replace('`', '')}`"
        case Bullets(items):
            return "\n".join(f"- {marked(item)}" for item in items)
        case Tiles(tiles):
            lines = [f"- {marked(tile.title)}: **{marked(tile.value)}** {marked(tile.detail)}" for tile in tiles]
            return "\n".join(line.rstrip() for line in lines)
        case Table(columns, rows, _):
            heads = [marked(name) for name in columns] or [""] * (len(rows[0]) if rows else 1)
            table = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in table)
        case Picture():
            return ""


def _cell(cell: Cell) -> str:
    match cell:
        case str():
            return marked(cell)
        case Verdict(word, _):
            return marked(word)
        case Range() | Amount():
            return cell.text

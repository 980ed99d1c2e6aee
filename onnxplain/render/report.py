"""One self-contained HTML page of sections: text, tables, pictures. All that is shown is escaped."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path

from onnxplain.files import write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
       color: #1b1b1b; background: #fff; }
h1 { font-size: 1.5em; }
h2 { font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em; }
table { border-collapse: collapse; margin: 1em 0; font-size: .9em; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: right; }
th { position: sticky; top: 0; background: #f4f4f4; }
th:first-child, td:first-child { text-align: left; }
caption { text-align: left; font-weight: 600; padding: .3em 0; }
figure { display: inline-block; margin: .5em 1em .5em 0; vertical-align: top; max-width: 100%; }
figcaption { font-size: .85em; color: #555; max-width: 40em; } img { max-width: 100%; height: auto; }
.bad { color: #a40000; font-weight: 600; } .good { color: #0a6b22; font-weight: 600; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #e6e6e6; }
  th { background: #262626; } th, td { border-color: #3a3a3a; } h2 { border-color: #3a3a3a; }
  figcaption { color: #aaa; } .bad { color: #ff8a80; } .good { color: #7bd88f; } img { background: #fff; } }
"""


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers are shown to four digits, None as a dash."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""

    def csv(self) -> str:
        """Return the table as CSV, numbers in full; None is empty."""
        file = StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return file.getvalue()

    def lines(self) -> list[str]:
        """Return the table as lines of aligned text."""
        shown = [self.columns, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(len(row[i]) for row in shown) for i in range(len(self.columns))]
        return [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in shown
        ]


@dataclass(frozen=True)
class Picture:
    """A PNG with a caption, which also describes it to those who cannot see it."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a report; `verdict` colours its title, where it has one: True good, False bad."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    verdict: bool | None = None


def write_report(path: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Write the page; raises OutputError."""
    body = "".join(_section(s) for s in sections)
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>\n",
    )
    return Path(path)


def _section(section: Section) -> str:
    mark = {None: "", True: ' class="good"', False: ' class="bad"'}[section.verdict]
    parts = [f"<section><h2{mark}>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(line)}</p>" for line in section.text]
    parts += map(_table, section.tables)
    for picture in section.pictures:
        data, caption = base64.b64encode(picture.png).decode(), escape(picture.caption)
        parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return "".join([*parts, "</section>"])


def _table(table: Table) -> str:
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(cell))}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _shown(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)

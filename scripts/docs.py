"""Writes the parts of the documentation that come from the code: the README's tables, docs/methods.md, docs/layouts.md.

python scripts/docs.py            write them
python scripts/docs.py --check    say what is out of date, and exit 1 if anything is
"""

import argparse
import os
import sys
from pathlib import Path

from dataparsers.base import Layout
from dataparsers.protocols import Protocol
from dataparsers.registry import all_layouts
from dyngs_plugins.papers import MethodRecord, Paper, all_papers

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- methods: written by scripts/docs.py -->"
END = "<!-- end of methods -->"
LAYOUTS_BEGIN = "<!-- layouts: written by scripts/docs.py -->"
LAYOUTS_END = "<!-- end of layouts -->"


def readme_table(records: list[MethodRecord]) -> str:
    """One row a method module; baselines last."""
    lines = ["| command | what | paper | status |", "|---|---|---|---|"]
    for record in sorted(records, key=lambda record: (record.paper is None, record.module)):
        commands = "<br>".join(f"`{method}`" for method, _ in record.methods)
        if record.paper is None:
            source, status = "none", "baseline"
        else:
            source = f"[{record.paper.title}]({record.paper.url}), {record.paper.venue} {record.paper.year}"
            status = record.paper.status
        lines.append(f"| {commands} | {_cell(record.methods[0][1])} | {_cell(source)} | {status} |")
    return "\n".join(lines)


def methods_page(records: list[MethodRecord]) -> str:
    """docs/methods.md: everything the records say."""
    parts = [
        "# Methods",
        "Written by `scripts/docs.py` from the records in `method_configs/`. A published figure is the paper's, under "
        "the protocol named beside it; it is not a measurement of this implementation.",
    ]
    for record in records:
        parts.append(f"## {', '.join(method for method, _ in record.methods)}")
        parts.append("\n".join(f"- `{method}`: {description}" for method, description in record.methods))
        parts.append(_paper(record.paper) if record.paper else "A baseline of this project; no paper describes it.")
    return "\n\n".join(parts) + "\n"


def _paper(paper: Paper) -> str:
    lines = [
        f"Paper: [{paper.title}]({paper.url}), {paper.venue} {paper.year}. Licence of the reference implementation: "
        f"{paper.licence}. Status here: **{paper.status}**."
    ]
    if paper.deviations:
        lines += ["", "Where this implementation differs:", ""] + [f"- {deviation}" for deviation in paper.deviations]
    if paper.published:
        lines += ["", "| dataset | metric | published | protocol |", "|---|---|---|---|"]
        for figure in paper.published:
            cells = (figure.dataset, figure.metric, f"{figure.value:g}", figure.protocol)
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def layouts_table(layouts: list[Layout]) -> str:
    """One row a layout."""
    lines = ["| command | data | what the folder holds | splits (the first is the default) | where to get it |"]
    lines.append("|---|---|---|---|---|")
    for layout in layouts:
        splits = ", ".join(protocol.name for protocol in layout.protocols)
        cells = (f"`{layout.command}`", layout.title, layout.expects, splits, layout.get_it)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def layouts_page(layouts: list[Layout]) -> str:
    """docs/layouts.md: every layout with all its protocols."""
    parts = [
        "# Layouts of data",
        "Written by `scripts/docs.py` from the records in `dataparsers/`. `--data FOLDER` recognises these; a layout's "
        "own options follow its command, at the end: `ns-train dyn-som --data FOLDER som-data --help`. "
        "`--protocol NAME` after the command (or after `auto-data`) picks a protocol. Numbers of two protocols do not "
        "compare, so `ns-eval` names it beside each number.",
    ]
    for layout in layouts:
        parts.append(f"## {layout.command}: {layout.title}")
        parts.append(f"Expects: {_cell(layout.expects)}.\n\nWhere to get it: {_cell(layout.get_it)}.")
        parts += [_protocol(protocol, default=i == 0) for i, protocol in enumerate(layout.protocols)]
    return "\n\n".join(parts) + "\n"


def _protocol(protocol: Protocol, default: bool) -> str:
    facts = {
        "trains on": protocol.trains,
        "tests on": protocol.tests,
        "resolution": protocol.resolution,
        "background": protocol.background or "",
        "pixels that count": protocol.mask or "all",
        "LPIPS": protocol.lpips,
        "poses": protocol.poses,
        "source": protocol.source,
    }
    lines = [f"**{protocol.name}**{' (default)' if default else ''}", ""]
    return "\n".join(lines + [f"- {name}: {_cell(text)}" for name, text in facts.items() if text])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def with_table(readme: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """The README with the text between two markers replaced.

    Raises:
        ValueError: if the markers are not there, once each and in order.
    """
    before, found, rest = readme.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed) or begin in rest or end in after:
        raise ValueError(f"README.md must hold the lines {begin!r} and {end!r} once each, in this order.")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def generated(root: Path = ROOT) -> dict[Path, str]:
    """Each file that comes from the code (wholly or in part) and what it should contain."""
    records, layouts = all_papers(), list(all_layouts().values())
    readme = root / "README.md"
    text = with_table(readme.read_text(), readme_table(records))
    return {
        readme: with_table(text, layouts_table(layouts), LAYOUTS_BEGIN, LAYOUTS_END),
        root / "docs" / "methods.md": methods_page(records),
        root / "docs" / "layouts.md": layouts_page(layouts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    stale = False
    for path, content in generated().items():
        if path.is_file() and path.read_text() == content:
            continue
        stale = True
        print(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(content)
            os.replace(partial, path)
    sys.exit(1 if stale and check else 0)


if __name__ == "__main__":
    main()

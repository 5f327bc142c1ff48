"""Writes the parts of the documentation that come from the code: the README's table of methods and docs/methods.md.

python scripts/docs.py            write them
python scripts/docs.py --check    say what is out of date, and exit 1 if anything is
"""

import argparse
import os
import sys
from pathlib import Path

from dyngs_plugins.papers import MethodRecord, Paper, all_papers

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- methods: written by scripts/docs.py -->"
END = "<!-- end of methods -->"


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def with_table(readme: str, table: str) -> str:
    """The README with the text between the markers replaced.

    Raises:
        ValueError: if the markers are not there, once each and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"README.md must hold the lines {BEGIN!r} and {END!r} once each, in this order.")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def generated(root: Path = ROOT) -> dict[Path, str]:
    """Each file that comes from the code (wholly or in part) and what it should contain."""
    records = all_papers()
    readme = root / "README.md"
    return {
        readme: with_table(readme.read_text(), readme_table(records)),
        root / "docs" / "methods.md": methods_page(records),
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

"""What the README and pyproject.toml say about the methods is what the code says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dataparsers.base import ClipDataParserConfig, Layout
from dataparsers.protocols import Protocol
from dataparsers.registry import all_layouts
from dyngs_plugins.papers import MethodRecord, Paper, Published, all_papers

ROOT = Path(__file__).resolve().parents[1]


def load_docs_script():
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = load_docs_script()


def test_generated_documents_are_up_to_date():
    for path, content in docs.generated().items():
        assert path.is_file(), f"{path.name} is missing: run python scripts/docs.py"
        assert path.read_text() == content, f"{path.name} is out of date: run python scripts/docs.py"


def entry_points(group: str) -> dict[str, str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group]


def missing_lines(group: str, defined: dict[str, str]) -> list[str]:
    """What to add to (or remove from) a table of pyproject.toml so that it holds exactly ``defined``."""
    written = entry_points(group)
    lines = [f'add:    {name} = "{target}"' for name, target in defined.items() if written.get(name) != target]
    lines += [f'remove: {name} = "{target}"' for name, target in written.items() if defined.get(name) != target]
    return lines


def specifications(package: str, kind: type) -> dict[str, tuple[str, object]]:
    """Every specification of a package: ``module:attribute`` and the object, in the order of files."""
    import importlib
    import pkgutil

    found = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for attribute, value in vars(module).items():
            if isinstance(value, kind):
                found[f"{package}.{info.name}:{attribute}"] = value
    return found


def test_every_method_has_its_line_in_pyproject():
    from nerfstudio.plugins.types import MethodSpecification

    group = "nerfstudio.method_configs"
    defined = {
        spec.config.method_name: target  # type: ignore[attr-defined]
        for target, spec in specifications("method_configs", MethodSpecification).items()
    }
    assert defined
    lines = missing_lines(group, defined)
    assert not lines, f'in pyproject.toml, under [project.entry-points."{group}"]:\n' + "\n".join(lines)


def test_every_dataparser_has_its_line_in_pyproject():
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification

    group = "nerfstudio.dataparser_configs"
    # The entry point's name is the command-line name, and says the attribute with a dash: som_data is som-data.
    defined = {
        target.partition(":")[2].replace("_", "-"): target
        for target in specifications("dataparsers", DataParserSpecification)
    }
    assert defined
    lines = missing_lines(group, defined)
    assert not lines, f'in pyproject.toml, under [project.entry-points."{group}"]:\n' + "\n".join(lines)


def test_every_method_says_what_it_stands_for():
    records = all_papers()
    assert {method for record in records for method, _ in record.methods} == set(
        entry_points("nerfstudio.method_configs")
    )
    for record in records:
        assert all(description for _, description in record.methods), record.module
        if record.paper is not None:
            assert record.paper.url.startswith("https://"), record.module
            assert all(figure.protocol for figure in record.paper.published), record.module


def some_paper(**changes) -> Paper:
    values = {
        "title": "A | B",
        "venue": "ICCV",
        "year": 2025,
        "url": "https://example.org/paper",
        "licence": "MIT",
        "published": (Published("scenes", "PSNR", 20.5, "7 scenes, half resolution"),),
        "status": "faithful core",
        "deviations": ("no pruning",),
    }
    return Paper(**{**values, **changes})


def test_the_table_puts_baselines_last_and_survives_bars_in_titles():
    records = [
        MethodRecord("method_configs.a", (("dyn-a", "nothing moves"),), None),
        MethodRecord("method_configs.b", (("dyn-b", "b moves"), ("dyn-b-small", "small")), some_paper()),
    ]
    lines = docs.readme_table(records).splitlines()
    assert lines[2].startswith(
        "| `dyn-b`<br>`dyn-b-small` | b moves | [A \\| B](https://example.org/paper), ICCV 2025 |"
    )
    assert lines[3] == "| `dyn-a` | nothing moves | none | baseline |"
    page = docs.methods_page(records)
    for expected in ("## dyn-b, dyn-b-small", "- no pruning", "| scenes | PSNR | 20.5 | 7 scenes, half resolution |"):
        assert expected in page


def test_the_table_goes_between_its_markers():
    readme = f"before\n{docs.BEGIN}\nold\n{docs.END}\nafter\n"
    assert docs.with_table(readme, "new") == f"before\n{docs.BEGIN}\n\nnew\n\n{docs.END}\nafter\n"
    assert docs.with_table(docs.with_table(readme, "new"), "new") == docs.with_table(readme, "new")
    for broken in ("no markers", f"{docs.END}\n{docs.BEGIN}", f"{docs.BEGIN}{docs.BEGIN}{docs.END}"):
        with pytest.raises(ValueError, match="once each"):
            docs.with_table(broken, "new")


def some_layout() -> Layout:
    protocols = (
        Protocol("first", "odd | rows", "even rows", "a paper", background="white"),
        Protocol("second", "all", "all", "ours", mask="those of mask/", lpips="vgg"),
    )
    return Layout("x-data", "X", "a|b/", "its page", ClipDataParserConfig, protocols, lambda root: None)


def test_the_table_of_layouts_has_their_splits_and_survives_bars():
    assert docs.layouts_table([some_layout()]).splitlines()[2:] == [
        "| `x-data` | X | a\\|b/ | first, second | its page |"
    ]


def test_the_page_of_layouts_has_every_fact_of_every_protocol():
    page = docs.layouts_page([some_layout()])
    assert "## x-data: X\n\nExpects: a\\|b/.\n\nWhere to get it: its page.\n\n**first** (default)\n" in page
    assert "- trains on: odd \\| rows\n- tests on: even rows\n- resolution: as stored\n- background: white\n" in page
    assert "- pixels that count: all\n- LPIPS: alex\n- poses: given\n- source: a paper\n\n**second**\n" in page
    assert "- pixels that count: those of mask/\n- LPIPS: vgg\n" in page


def test_every_layout_is_in_the_readme_with_its_splits():
    readme = (ROOT / "README.md").read_text()
    table = readme.partition(docs.LAYOUTS_BEGIN)[2].partition(docs.LAYOUTS_END)[0]
    page = (ROOT / "docs" / "layouts.md").read_text()
    for layout in all_layouts().values():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{layout.command}` |")]
        section = page.partition(f"## {layout.command}: ")[2].partition("\n## ")[0]
        for protocol in layout.protocols:
            assert protocol.name in row
            assert f"**{protocol.name}**" in section


def test_markers_of_one_table_do_not_serve_another():
    readme = f"{docs.BEGIN}{docs.END}"
    with pytest.raises(ValueError, match="layouts: written by"):
        docs.with_table(readme, "new", docs.LAYOUTS_BEGIN, docs.LAYOUTS_END)


def test_an_approximation_must_be_named():
    with pytest.raises(ValueError, match="names no deviation"):
        some_paper(deviations=())
    with pytest.raises(ValueError, match="expected one of"):
        some_paper(status="perfect")
    assert some_paper(status="exact", deviations=()).status == "exact"


def test_missing_lines_are_spelled_out(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "entry_points", lambda group: {"a": "m.a:a", "old": "m.old:x"})
    assert missing_lines("g", {"a": "m.a:a", "b": "m.b:b"}) == ['add:    b = "m.b:b"', 'remove: old = "m.old:x"']

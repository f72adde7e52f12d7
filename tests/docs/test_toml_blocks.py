"""Every TOML block of the documentation is part of a scenario that loads, or of a project's file that pip reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w
from pages import Block, blocks

from fed_unlearn.simulations.scenario import built_in_scenarios, load_scenario

PROJECT = {"project", "build-system", "tool"}
BLOCKS = [(block, tomllib.loads(block.text)) for block in blocks("toml")]
SECTIONS = [(block, table) for block, table in BLOCKS if not PROJECT & set(table)]


def scenario(folder: Path, *tables: dict[str, object]) -> str:
    """The path of the digits scenario with sections put in the place of its own."""
    whole = tomllib.loads(built_in_scenarios()["digits"].read_text(encoding="utf-8"))
    for table in tables:
        whole |= table
    path = folder / "documented.toml"
    path.write_text(tomli_w.dumps(whole), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("block", "table"), SECTIONS, ids=lambda value: value.page if isinstance(value, Block) else "")
def test_section(tmp_path: Path, block: Block, table: dict[str, object]) -> None:
    loaded = load_scenario(scenario(tmp_path, table))
    assert set(table) <= set(type(loaded).model_fields)


def test_sections_of_one_page_go_together(tmp_path: Path) -> None:
    tables = [table for block, table in SECTIONS if block.page == "scenarios.md"]
    assert len(tables) >= 5
    load_scenario(scenario(tmp_path, *tables))

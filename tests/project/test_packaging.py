"""What the package says of itself, and that it is true."""

from __future__ import annotations

import importlib
import tomllib
from importlib.metadata import entry_points, requires, version
from pathlib import Path

import pytest

import imagecache

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_one() -> None:
    assert version("imagecache") == imagecache.__version__


def test_the_console_script_and_the_pytest_plugin_are_there() -> None:
    (script,) = entry_points(group="console_scripts", name="imagecache")
    assert callable(script.load())
    (plugin,) = entry_points(group="pytest11", name="imagecache")
    assert plugin.load() is importlib.import_module("imagecache.testing.plugin")


def test_types_are_shipped() -> None:
    assert (ROOT / "imagecache" / "py.typed").is_file()


def test_every_dependency_names_its_lowest_version() -> None:
    needed = requires("imagecache") or []
    assert needed
    assert all(">=" in requirement for requirement in needed)


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_two_commands_are_in_the_readme_and_the_makefile(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    target = command.removeprefix("make ")
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_folder_of_the_package_is_a_row_of_the_import_rules() -> None:
    (rooms,) = [rule for rule in PROJECT["tool"]["importlinter"]["contracts"] if rule["id"] == "rooms"]
    assert rooms["exhaustive"] is True
    assert rooms["containers"] == ["imagecache"]

"""A copy of the bookshop for each test, and the program that is tested."""

import os
import pathlib
import shutil

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


def program() -> str:
    """`MESHC`, else what `cargo build` made."""
    given = os.environ.get("MESHC")
    if given:
        return given
    for profile in ("release", "debug"):
        path = TOP / "target" / profile / "meshc"
        if path.exists():
            return str(path)
    raise RuntimeError("no meshc was built: run `cargo build -p meshc`, or set MESHC")


@pytest.fixture
def bookshop(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "bookshop"
    shutil.copytree(TOP / "policies" / "examples" / "bookshop", folder)
    return folder

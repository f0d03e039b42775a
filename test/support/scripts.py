"""Scripts of the checkout, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def load_script(name: str, folder: str = "scripts") -> Any:
    """The module of FOLDER/NAME.py, which no package holds: of scripts, bench or examples, executed anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    # Dataclasses look for the types of their fields in sys.modules.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

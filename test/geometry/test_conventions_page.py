"""The Python lines on the conventions page hold."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_example_runs(repository: Path) -> None:
    page = (repository / "docs" / "conventions.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) >= 5
    scope: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/conventions.md", "exec"), scope)

"""scripts/check_figures.py in small repositories: which pages are older than their code, and what is wrong anyhow."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


SCRIPT = load_script("check_figures")
CODE = '"""What it does."""\n\n\ndef fast():\n    """Quickly."""\n    return 1\n'


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def commit(root: Path, **files: str) -> None:
    """Write files (`_` for `/`, `__` for `.`) and commit them."""
    for name, text in files.items():
        path = root / name.replace("__", ".").replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-m", "a change")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two pages, quick and alone, of two folders of code."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-b", "main")
    sources = (
        "speed: {set: quick, command: python bench/speed.py, code: [net]}\n"
        "lesson: {set: alone, command: pose2rgbd train, code: [lessons]}\n"
    )
    commit(
        root, bench_results_sources__yaml=sources, bench_results_speed__md="1 ms", bench_results_lesson__md="2 dB",
        bench_speed__py="print(1)\n", net_a__py=CODE, lessons_b__py=CODE,
        README__md="# Fast\n\nIt takes 3 ms ([speed](bench/results/speed.md)).\n",
    )  # fmt: skip
    return root


def old(root: Path) -> dict[str, tuple[str, ...]]:
    return {page.page: page.changed for page in SCRIPT.old_pages(root)}


def test_pages_of_the_same_commit_are_current(repository: Path) -> None:
    assert list(SCRIPT.mistakes(repository)) == []
    assert old(repository) == {}
    assert SCRIPT.main([], repository) == 0


def test_a_page_is_old_once_its_code_does_something_else(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(repository, net_a__py=CODE.replace("1", "2"))
    assert old(repository) == {"speed": ("net/a.py",)}
    assert SCRIPT.main([], repository) == 0, "it warns"
    said = capsys.readouterr().out
    assert "warning: bench/results/speed.md (quick): net/a.py changed; again by `python bench/speed.py`" in said
    assert SCRIPT.main(["--strict"], repository) == 1
    commit(repository, bench_results_speed__md="0.9 ms")
    assert old(repository) == {}
    assert SCRIPT.main(["--strict"], repository) == 0


def test_the_script_of_the_command_counts_and_a_new_file_too(repository: Path) -> None:
    commit(repository, bench_speed__py="print(2)\n", net_new__py="x = 1\n")
    assert old(repository) == {"speed": ("bench/speed.py", "net/new.py")}


@pytest.mark.parametrize(
    "same",
    [CODE.replace("Quickly", "At once"), CODE.replace("return 1", "return 1  # the least"), CODE.replace("1", "(1)")],
)
def test_comments_docstrings_and_layout_do_not_count(repository: Path, same: str) -> None:
    commit(repository, net_a__py=same)
    assert old(repository) == {}


def test_code_that_is_undone_is_not_newer(repository: Path) -> None:
    commit(repository, net_a__py=CODE.replace("1", "2"))
    commit(repository, net_a__py=CODE)
    assert old(repository) == {}


def test_a_page_of_a_branch_is_old_when_other_code_is_merged(repository: Path) -> None:
    git(repository, "checkout", "-b", "branch")
    commit(repository, net_a__py=CODE.replace("1", "2"), bench_results_speed__md="0.5 ms")
    git(repository, "checkout", "main")
    commit(repository, net_other__py="y = 1\n")
    git(repository, "merge", "branch", "--no-edit")
    assert old(repository) == {"speed": ("net/other.py",)}


def test_trainings_warn_in_one_line_and_never_fail(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(repository, lessons_b__py="z = 1\n")
    assert SCRIPT.main(["--strict"], repository) == 0
    assert "older than their code (set alone; --all says more): lesson" in capsys.readouterr().out
    assert SCRIPT.main(["--all"], repository) == 0
    assert "lessons/b.py changed; again by `pose2rgbd train`" in capsys.readouterr().out


def test_a_shallow_clone_is_no_reason_to_fail(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(repository, net_a__py=CODE.replace("1", "2"))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--depth", "1", repository.as_uri(), str(clone))
    assert SCRIPT.main(["--strict"], clone) == 0
    assert "the history is cut off" in capsys.readouterr().out


def test_without_git_only_what_stands_there_is_judged(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".git").rename(repository / "no-git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    assert SCRIPT.main(["--strict"], repository) == 0
    assert "ages are unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("bench/results/more.md", "3 ms", "more.md is not in bench/results/sources.yaml"),
        ("bench/results/sources.yaml", "gone: {set: past}\n", "there is no bench/results/gone.md"),
        (
            "bench/results/sources.yaml",
            "speed: {set: soon}\n",
            "set is 'soon'; choose one of: quick, full, alone, past",
        ),
        ("bench/results/sources.yaml", "speed: {set: full, command: pose2rgbd x, code: [nix]}\n", "nix does not exist"),
        ("bench/results/sources.yaml", "speed: {set: full, command: pose2rgbd x}\n", "command and code are missing"),
        ("docs/page.md", "[it](../bench/results/none.md)", "docs/page.md: the link to ../bench/results/none.md"),
        ("README.md", "Renders at 60 Hz.\n", "README.md: figures that name no page: Renders at 60 Hz."),
        ("README.md", "Renders\n\n| | RGB |\n|---|---|\n| a | 3.8 dB |\n", "figures that name no page"),
        ("README.md", "60 Hz ([why](docs/why.md))\n", "figures that name no page"),
    ],
)
def test_what_a_minute_repairs_fails(repository: Path, name: str, text: str, problem: str) -> None:
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert any(problem in line for line in SCRIPT.mistakes(repository))
    assert SCRIPT.main([], repository) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Renders at 60 Hz ([node](docs/node.md#figures)).\n",
        "`make demo` (2 cores), 3 m:\n\n| | RGB |\n|---|---|\n| a | 3.8 dB |\n",
        "Images of 512x512 and trainings of 45 s.\n",
    ],
)
def test_figures_of_readme_that_say_where_they_come_from(repository: Path, text: str) -> None:
    (repository / "docs").mkdir()
    (repository / "docs" / "node.md").write_text("[here](../bench/results/speed.md)")
    (repository / "README.md").write_text(text)
    assert list(SCRIPT.mistakes(repository)) == []

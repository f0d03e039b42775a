"""bench/papers_queue.py: stopped and started it goes on, what is finished is left alone, a page says how far it is."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from support.scripts import load_script

from pose2rgbd_ros.experiments.settings import LocalizationConfig, TablesConfig, varied
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.families import train_config


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_script("papers_queue", "bench")


def test_a_queue_goes_on_where_it_was_stopped(
    module: ModuleType, flight_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second study is begun once the first has its first seed; no step is taken twice."""
    flight_dataset(tmp_path / "places/kitchen", frames=30)
    command = "localization --dataset {kitchen} --models posegan-a --sizes 32 --width 0.125 --finders --saliency 0"
    first = module.Study("first", "What is asked first.", command, ("gain=4",), steps=3, seeds=2)
    second = module.Study("second", "What is asked then.", command, steps=2, seeds=2)
    long = module.Study("long", "What takes long.", command, steps=1, seeds=1)
    queue = module.Queue(tmp_path, studies=[long, first, second])
    assert [(study.name, words[words.index("--seeds") + 1]) for study, words in queue.commands()] == [
        ("first", "1"), ("second", "1"), ("first", "2"), ("second", "2"), ("long", "1"),
    ]  # fmt: skip
    taken: list[tuple[str, int]] = []
    step = trainer._Run._step

    def counted(run: trainer._Run, share: float) -> None:
        taken.append((f"{run.out.parent.parent.name}/{run.out.name}", run.state.step))
        if len(taken) == 2:  # in the first of the trainings
            signal.raise_signal(signal.SIGINT)
        step(run, share)

    monkeypatch.setattr(trainer._Run, "_step", counted)
    assert queue.run() == 130
    assert queue.done() == []
    assert "**under way**" not in queue.page()
    assert queue.run() == 0
    once = {f"first/kitchen-posegan-a-32-seed{seed}{end}": 3 for seed in (0, 1) for end in ("", "-gain=4")}
    once |= {f"second/kitchen-posegan-a-32-seed{seed}": 2 for seed in (0, 1)}
    once["long/kitchen-posegan-a-32-seed0"] = 1
    assert sorted(taken) == sorted((name, index) for name, steps in once.items() for index in range(steps))
    begun = list(dict.fromkeys(name.partition("/")[0] + name[-1] for name, _ in taken))
    assert begun == ["first0", "first4", "second0", "first1", "second1", "long0"]
    assert len(read_yaml(tmp_path / "queue.yaml")["done"]) == 5
    page = queue.page()
    assert page.count("**finished**") == 3
    assert "| PoseGAN-configA | 32 | gain=4 |" in page or "gain=4, seed" in page, "in the table, or left out by name"
    assert str(tmp_path) not in page
    assert queue.page(page) == page
    elsewhere = module.Queue(tmp_path / "elsewhere", studies=[long, first, second])
    assert elsewhere.page().count("**not begun**") == 3
    assert elsewhere.page(page) == page, "what was measured in another folder stays"
    before, after = (
        tmp_path / f"{name}/localized.yaml"
        for name in ("second/runs/kitchen-posegan-a-32-seed0", "first/runs/kitchen-posegan-a-32-seed1")
    )
    assert before.stat().st_mtime_ns < after.stat().st_mtime_ns, "measured anew when its other seed was asked for"
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*") if file.is_file()}
    assert queue.run() == 0
    assert len(taken) == sum(once.values()), "nothing is left"
    assert written == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*") if file.is_file()}


def test_every_command_of_the_queue_is_one_that_can_be_asked(module: ModuleType, tmp_path: Path) -> None:
    """Its variants mean something to a network of it, its folders are places that are made, and no name is twice."""
    studies = module.studies()
    assert len({study.name for study in studies}) == len(studies)
    for study in studies:
        words = module.Queue(tmp_path).command(study, study.seeds)
        assert "{" not in " ".join(words)
        assert (study.steps is None) != (study.epochs is None)
        if study.command.startswith("localization"):
            models = study.command.split("--models ")[1].split(" --")[0].split()
            LocalizationConfig(models=tuple(models), variants=study.variants, steps=study.steps)
        else:
            TablesConfig(variants=study.variants, epochs=study.epochs)
            assert all(varied(train_config("slice-10"), variant) for variant in study.variants)
    with pytest.raises(SystemExit, match="needs --kitchen"):
        module.Queue(tmp_path, studies=studies[:1]).run()

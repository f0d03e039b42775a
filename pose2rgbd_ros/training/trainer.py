"""The training loop of all families, on one device or several, interruptible and resumable to the bit."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.training import evaluators, metrics
from pose2rgbd_ros.training.checkpoint import (
    CHECKPOINT,
    LAST,
    RunLog,
    RunState,
    as_tensors,
    load_state,
    load_stored,
    prepare_run_folder,
    save_checkpoint,
    save_state,
)
from pose2rgbd_ros.training.config import Recipe, RunConfig, TrainConfig, VideoConfig, resolve_recipe
from pose2rgbd_ros.training.data import RunData, open_training_data
from pose2rgbd_ros.training.families import family_of, has_part, part_of
from pose2rgbd_ros.training.learner import Learner
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.pretrained import load_weights

# Where to train: Lightning Fabric set up from the settings, or from torchrun's environment.


def pick_device(name: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". UserError: CUDA asked for and absent."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        build = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA device"
        raise UserError(f"device cuda was asked for, but {build}; use --device cpu or auto")
    return "cuda"


def make_fabric(config: RunConfig) -> Fabric:
    """A launched Fabric: one process, or under torchrun as many as it started (DDP).

    Raises:
        UserError: CUDA asked for and absent; bf16 asked for on the CPU, where it is many times slower than float32.
    """
    device = pick_device(config.device)
    if config.precision == "bf16" and device == "cpu":
        raise UserError("precision bf16 needs a GPU (on a CPU it is slower than 32); use --precision 32")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy=_strategy(config) if processes > 1 else "auto",
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _strategy(config: RunConfig) -> str:
    return "ddp_find_unused_parameters_true" if config.leaves_unused else "ddp"


# Ctrl-C and SIGTERM as a wish the training loop grants between two steps, so that nothing is saved half updated.


class Interruptible:
    """Context in which the first SIGINT or SIGTERM only sets `.requested`; the second one interrupts at once.

    Signals can only be handled in the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


# How far a run is, in steps or in time, and the learning rate that follows from it.


MIN_LEARNING_RATE = 1e-7


class Progress:
    """Share of the run that is done: by steps, by time, or the larger of both.

    Time spent before a resumed run was interrupted counts; time between does not.
    """

    def __init__(
        self, total_steps: int, budget_s: float | None, elapsed_before_s: float = 0.0, clock: str = "wall"
    ) -> None:
        """`clock`: "wall", or "cpu" for the processor time of this process, all its threads together."""
        self.total_steps = total_steps
        self.budget_s = budget_s
        self._now_s = time.process_time if clock == "cpu" else time.monotonic
        self._start_s = self._now_s() - elapsed_before_s

    @property
    def elapsed_s(self) -> float:
        return self._now_s() - self._start_s

    def share(self, step: int, reserve_s: float = 0.0) -> float:
        """0..1 after `step` steps; `reserve_s` of the budget is kept for what comes after the last step."""
        by_steps = step / self.total_steps
        if self.budget_s is None:
            return min(1.0, by_steps)
        by_time = self.elapsed_s / max(self.budget_s - reserve_s, 1e-9)
        return min(1.0, max(by_steps, by_time))


def learning_rate(peak: float, schedule: str, warmup: float, share: float) -> float:
    """ "fixed" stays at the peak after the warm-up; "cosine" then falls to zero by the end of the run."""
    if share < warmup:
        return max(peak * share / warmup, MIN_LEARNING_RATE)
    if schedule == "fixed":
        return peak
    fall = (share - warmup) / (1.0 - warmup)
    return max(peak * 0.5 * (1.0 + math.cos(math.pi * fall)), MIN_LEARNING_RATE)


logger = logging.getLogger(__name__)

WATCHED_FRAMES = 96  # of the frames that choose, looked at during the run; the last validation takes all
VALIDATION_SHARE = 0.1  # of the time, at most
VALIDATE_EVERY_S = 5.0  # at most so often, unless set otherwise
SAVE_EVERY_S = 60.0
# When a run that answers nearly alike whatever its input is given up: after so many validations in a row, from a share
# of the run on. Where the learning rate falls, networks have left the mean image as late as after two thirds of it.
COLLAPSED_VALIDATIONS = 3
COLLAPSED_FROM = 0.33  # of a run at a fixed rate, and of one whose answers once varied
SETTLED_FROM = 0.1  # before, a network may answer wildly
COLLAPSED_AT_FALLING_RATE_FROM = 0.8  # the rate is a tenth of its peak
CHECK_LOSS_EVERY = 25  # steps; reading the loss makes a GPU wait
BAD_BATCH = "bad_batch.safetensors"
NO_MEMORY = "can't allocate memory"  # in what PyTorch raises for a CPU


@dataclass
class TrainResult:
    """What a run achieved, by the weights that were kept.

    scored_on: "choose": the scores are of the frames that chose these weights, so they flatter; "train": nothing was
    held out to choose by, and the scores are of frames trained on. Frames that judge are evaluate's alone.
    stopped: why it ended before its time, and what to change; "" for a run that came to its end.
    """

    checkpoint: Path
    scores: dict[str, float]
    scored_on: str
    baseline: dict[str, float]
    epochs: float
    images: int
    seconds: float
    interrupted: bool
    depth_unit: str
    description: str  # the scores in one line for people
    stopped: str = ""

    @property
    def collapsed(self) -> bool:
        """The network answers nearly the same image whatever the pose."""
        return metrics.is_collapsed(self.scores)


def train(source: Path | Sequence[Path], out: Path, config: RunConfig, resume: bool = False) -> TrainResult:
    """Train a network on a dataset, or one of video on one or several sources, into the run folder `out`.

    `out` holds config.yaml, checkpoint/ (the weights `config.keep` asks for), last/ (to resume from), metrics.csv,
    samples/ and tb/. The first Ctrl-C saves and returns with ``interrupted``; `resume` goes on from last/.

    Raises:
        UserError: impossible settings, bad data, a run folder in use, a full disk, a loss that is not finite, too
            little memory.
    """
    try:
        with _enough_memory(config):
            return _train(make_fabric(config), source, out, config, resume)
    finally:
        _leave_process_group()


def open_data(source: Path | Sequence[Path], config: RunConfig) -> RunData:
    """What a run learns from. UserError: no such source, or one that cannot be learnt from."""
    sources = [source] if isinstance(source, Path) else list(source)
    if isinstance(config, VideoConfig):
        from pose2rgbd_ros.training.video import open_video_data

        return open_video_data(sources, config)
    assert isinstance(config, TrainConfig)
    return open_training_data(sources[0], config)


@contextmanager
def _enough_memory(config: RunConfig) -> Iterator[None]:
    """Context in which running out of memory is a UserError that says what takes less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or NO_MEMORY in str(error)):
            raise
        batch = resolve_recipe(config).batch_size
        smaller = f"--batch-size {batch // 2} in place of {batch}" if batch > 1 else "smaller images"
        raise UserError(f"out of memory; try {smaller}, and --resume goes on with what was saved") from error


def _train(fabric: Fabric, source: Path | Sequence[Path], out: Path, config: RunConfig, resume: bool) -> TrainResult:
    """See :func:`train`. What it returns holds nothing of the process group, whose threads end with its last user."""
    data = open_data(source, config)
    _check_can_choose(data, config)
    if fabric.is_global_zero:
        prepare_run_folder(out, data.source(), config, resume)
    fabric.barrier()
    run = _Run(fabric, data, out, config, () if resume else getattr(config, "weights", ()))
    if resume:
        run.restore()
    with Interruptible() as interrupt:
        run.loop(interrupt)
    return run.finish()


def _leave_process_group() -> None:
    """Before the interpreter ends, also after an error: Gloo's threads free tensors, for which they need it, and abort.

    (pytorch/pytorch#179291. NCCL's group is left to Fabric's own hook at the exit: after an error it could wait for
    ever.)
    """
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    if there and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _check_can_choose(data: RunData, config: RunConfig) -> None:
    """Say what is kept where nothing can choose. UserError: an early stop, which needs frames to choose by."""
    if len(data.split.choose) > 0:
        return
    held_out = f"{counted(len(data.split.judge), 'frame')} held out, too few to choose by: for judging only"
    if config.early_stop:
        raise UserError(f"{held_out}; leave out --early-stop, or hold out more with --test-fraction")
    if config.keep == "best":
        logger.warning("%s, and the latest weights are kept", held_out)


def make_learner(config: RunConfig, recipe: Recipe, data: Any, device: torch.device | None = None) -> Learner:
    """The learner of a run, its weights drawn from PyTorch's generator as it stands.

    Args:
        data: what the family learns from: a TrainingData, or a SnippetData.
        device: where it will train; what a learner computes in advance from the data is computed there.

    Raises:
        UserError: a model that cannot be trained on this data, or not on this machine.
    """
    family = part_of(family_of(config.model), "learner")
    learner: Learner = family.make(config, recipe, data, device or torch.device("cpu"))
    return learner


class _Run:
    """One run on one process; under DDP process 0 alone validates and writes."""

    def __init__(
        self, fabric: Fabric, data: RunData, out: Path, config: RunConfig, weights: Sequence[Path] = ()
    ) -> None:
        """`weights`: files that the network begins with."""
        began_s = time.monotonic()
        self.fabric, self.data, self.out, self.config = fabric, data, out, config
        self.recipe = recipe = resolve_recipe(config)
        torch.manual_seed(config.seed)
        self.learner = make_learner(config, recipe, data.for_training(), fabric.device)
        if weights:
            print(load_weights(self.learner.model, weights).table(), flush=True)
        self.judge = self.learner.judge(data, fabric.device)
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            self.learner.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.learner.model)
        self.model: nn.Module = self.learner.model
        self.learner.to(fabric.device)
        self.average = None
        if recipe.ema_decay > 0:
            blend = _blending(recipe.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=blend, use_buffers=True).to(fabric.device)
        self.wrapped, self.optimizer = self._set_up_optimizer()
        # Every process takes equally many, equally large batches; what is left over waits for another epoch's order.
        self.batch = max(1, min(recipe.batch_size, len(data.split.train)) // fabric.world_size)
        self.steps_per_epoch = max(1, len(data.split.train) // (self.batch * fabric.world_size))
        self.scored_on, self.scored = "choose", data.split.choose
        if len(self.scored) == 0:
            self.scored_on, self.scored = "train", spread(data.split.train, WATCHED_FRAMES)
        self.keeps_best = config.keep == "best" and self.scored_on == "choose"
        self.watched = spread(self.scored, WATCHED_FRAMES)
        self.baseline = self.judge.baseline(self.watched) if fabric.is_global_zero else {}
        self.state = RunState()
        self.first_bad = torch.tensor(-1, device=fabric.device)  # step whose loss was no number
        self._epoch, self._order = -1, np.empty(0, np.int64)
        self.scores: dict[str, float] = {}
        self.kept: dict[str, Tensor] | None = None
        self.validation_s = 0.0
        self.interrupted = self.stop = False
        self.latest: dict[str, float] = {}  # scores of the latest validation
        self.collapsed_validations, self.most_variation, self.stopped = 0, 0.0, ""
        if config.max_minutes is not None and fabric.is_global_zero:
            logger.info("set up in %.0f s, beside --max-minutes", time.monotonic() - began_s)
        self._start_clock()

    def _set_up_optimizer(self) -> tuple[nn.Module, Any]:
        """The model as the loop calls it, and AdamW over all the learner learns; neither where nothing is learnt."""
        if not self.learner.trains:
            return self.model, None
        groups = [{"factor": 1.0, **group} for group in self.learner.parameter_groups(self.recipe)]
        recipe = self.recipe
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        wrapped, optimizer = self.fabric.setup(self.model, optimizer)
        self.learner.optimized_by(optimizer.optimizer)
        return wrapped, optimizer

    def restore(self) -> None:
        """Go on from last/ and with the weights kept so far."""
        self.state = load_state(self.out / LAST, self.learner, self._plain_optimizer(), self.average)
        kept = load_stored(self.out / CHECKPOINT) if (self.out / CHECKPOINT).exists() else None
        if kept is not None:
            self.data.check_continues(kept, self.out)
        tensors = {} if kept is None else as_tensors(kept.state_dict)
        own = {name: value.shape for name, value in self.model.state_dict().items()}
        if kept is not None and {name: value.shape for name, value in tensors.items()} == own:
            self.kept, self.scores = tensors, dict(kept.metrics)
        else:  # interrupted before there was one, it was removed, or made simpler at the end
            self.state.best_score = float("inf")
        self._start_clock()

    def _plain_optimizer(self) -> torch.optim.Optimizer | None:
        return None if self.optimizer is None else self.optimizer.optimizer

    def _start_clock(self) -> None:
        budget_s = None if self.config.max_minutes is None else self.config.max_minutes * 60
        total = self.recipe.steps or self.recipe.epochs * self.steps_per_epoch
        self.progress = Progress(total, budget_s, self.state.elapsed_s, self.config.clock)
        self.validated_at_s = self.saved_at_s = self.state.elapsed_s

    def loop(self, interrupt: Interruptible) -> None:
        """Step until the epochs, the time or the patience is spent, or it is interrupted."""
        log = RunLog(self.out, self.config.tensorboard) if self.fabric.is_global_zero else None
        form = "{percentage:3.0f} % |{bar:20}| {elapsed}{postfix}"
        try:
            with tqdm(total=100, disable=None if log else True, bar_format=form) as bar:
                while True:
                    share, stop = self._agree(self._share(), self.stop or interrupt.requested)
                    if share >= 1.0 or stop or not self.learner.trains:
                        break
                    self._step(share)
                    if log:
                        self._look_after_step(log, bar, share)
        finally:
            if log:
                log.close()
        self.interrupted = interrupt.requested

    def _share(self) -> float:
        """Share of the run that is done, with time kept for the validation of all frames that choose at the end."""
        reserve = 1.3 * self.validation_s * len(self.scored) / len(self.watched)
        return self.progress.share(self.state.step, reserve)

    def _agree(self, share: float, stop: bool) -> tuple[float, bool]:
        """All processes must take the same number of steps at the same learning rate."""
        if self.fabric.world_size == 1:
            return share, stop
        own = torch.tensor([share, float(stop)], device=self.fabric.device)
        mean = self.fabric.all_reduce(own, reduce_op="mean")
        return float(mean[0]), bool(mean[1] > 0)

    def _step(self, share: float) -> None:
        recipe = self.recipe
        done = self.learner.schedule_share(share)
        rate = learning_rate(recipe.learning_rate, recipe.schedule, recipe.warmup, done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        for loss in self.learner.losses(self.wrapped, self._batch_indices(self.state.step), share):
            self.fabric.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            bad = (self.first_bad < 0) & ~torch.isfinite(loss.detach())
            self.first_bad = torch.where(bad, self.state.step, self.first_bad)
        self.learner.after_step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.state.step += 1
        if self.fabric.device.type == "cpu" or self.state.step % CHECK_LOSS_EVERY == 0:
            self._check_loss()

    def _check_loss(self) -> None:
        """UserError when a loss was no number; the batch that had it is written into the run's folder."""
        step = int(self.first_bad)
        if step < 0:
            return
        indices = self._batch_indices(step)
        facts = {"step": step, "learning_rate": self.optimizer.param_groups[0]["lr"], "seed": self.config.seed}
        batch = {"indices": torch.from_numpy(indices), **self.data.named_batch(indices)}
        with os_errors(f"{self.out / BAD_BATCH} cannot be written"):
            contiguous = {name: value.cpu().contiguous() for name, value in batch.items()}
            save_file(contiguous, self.out / BAD_BATCH, {name: str(value) for name, value in facts.items()})
        raise UserError(
            f"the loss is not finite any more at step {step + 1}; use a lower --learning-rate, and see whether the "
            f"images of its batch are sound: {self.out / BAD_BATCH}"
        )

    def _batch_indices(self, step: int) -> np.ndarray:
        """Frames of this process's share of the batch of a step; the order depends on (seed, epoch) alone."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.config.seed, epoch])
            self._epoch, self._order = epoch, generator.permutation(self.data.split.train)
        first = (step_in_epoch * self.fabric.world_size + self.fabric.global_rank) * self.batch
        return self._order[first : first + self.batch]

    def _look_after_step(self, log: RunLog, bar: Any, share: float) -> None:
        """Validate and save when due; move the bar, which shows the best scores so far."""
        validated = self._validation_is_due()
        if validated:
            self._validate(log)
            self._watch_for_collapse(share)
        bar.n = round(100 * share, 1)
        bar.set_postfix_str(
            f"epoch {self.state.step // self.steps_per_epoch}  " + self.judge.describe(self.scores, self.baseline),
            refresh=False,
        )
        bar.update(0)
        if validated and bar.disable:  # no terminal to move a bar on
            logger.info("%3.0f %%  %s", 100 * share, bar.postfix or "")
        if self.progress.elapsed_s - self.saved_at_s > SAVE_EVERY_S:
            self._save_state()

    def _validation_is_due(self) -> bool:
        if self.config.validate_every is not None:
            return self.state.step % (self.config.validate_every * self.steps_per_epoch) == 0
        wait_s = max(VALIDATE_EVERY_S, self.validation_s / VALIDATION_SHARE)
        return self.progress.elapsed_s - self.validated_at_s > wait_s

    def _watch_for_collapse(self, share: float) -> None:
        """After a validation: give up a run that will not recover."""
        if share >= SETTLED_FROM:
            self.most_variation = max(self.most_variation, self.latest.get("variation", 0.0))
        self.collapsed_validations = self.collapsed_validations + 1 if metrics.is_collapsed(self.latest) else 0
        fell = self.most_variation >= 2 * metrics.COLLAPSED_BELOW
        early = fell or self.recipe.schedule == "fixed"
        late_enough = share >= (COLLAPSED_FROM if early else COLLAPSED_AT_FALLING_RATE_FROM)
        if self.config.stop_collapsed and late_enough and self.collapsed_validations >= COLLAPSED_VALIDATIONS:
            self.stop = True
            self.stopped = (
                "collapsed: it answers nearly alike whatever its input (variation "
                f"{self.latest['variation']:.2f}, below {metrics.COLLAPSED_BELOW:g} in "
                f"{self.collapsed_validations} validations), stopped at {share:.0%}; "
                f"{_what_to_change(self.config, self.recipe)}"
            )
            logger.warning("%s", self.stopped)

    def _validate(self, log: RunLog | None) -> None:
        """Score the current weights on the watched frames; keep them if they are the best, or the latest are wanted."""
        start_s = self.progress.elapsed_s
        self._check_loss()
        model = self._current()
        scores = self.latest = self.judge.scores(model, self.watched)
        score = self.judge.value(scores, self.baseline)
        is_best = score < self.state.best_score
        if is_best:
            self.state.best_score, self.state.validations_without_best = score, 0
        else:
            self.state.validations_without_best += 1
            self.stop = 0 < self.config.early_stop <= self.state.validations_without_best
        if is_best or (not self.keeps_best and math.isfinite(score)):
            self.scores = scores
            self.kept = evaluators.to_store(model)
            self._save_checkpoint(model, scores)
        if log:
            epoch = self.state.step / self.steps_per_epoch
            rate = self.optimizer.param_groups[0]["lr"] / self.optimizer.param_groups[0]["factor"]
            facts = {"epoch": epoch, "seconds": start_s, "learning_rate": rate}
            log.add(self.state.step, {**facts, **scores, **self.learner.measures()})
            sample = self.out / "samples" / f"epoch-{int(epoch):04d}.png"
            self.judge.draw(model, self.watched, sample)
        self.validated_at_s = self.progress.elapsed_s
        self.validation_s = self.validated_at_s - start_s

    def _current(self) -> nn.Module:
        """The weights that count: their running average where the recipe keeps one."""
        return self.model if self.average is None else self.average.module

    def _save_checkpoint(self, model: nn.Module, scores: dict[str, float]) -> None:
        """The kept weights, of a network like `model`."""
        assert self.kept is not None
        effort = {
            "steps": self.state.step,
            "images": self.state.step * self.batch * self.fabric.world_size,
            "seconds": round(self.progress.elapsed_s, 1),
            "clock": self.config.clock,
            "device": str(self.fabric.device),
            "kept": "best" if self.keeps_best else "last",
            "scored_on": self.scored_on,
            self.judge.compared_with: {key: round(value, 4) for key, value in self.baseline.items()},
            **self.learner.provenance(),
        }
        checkpoint = evaluators.make_checkpoint(model, self.kept, self.data, self.config, scores, effort)
        save_checkpoint(self.out / CHECKPOINT, checkpoint)

    def _save_state(self) -> None:
        self._check_loss()  # what was saved before stays good
        self.state.elapsed_s = self.progress.elapsed_s
        save_state(self.out / LAST, self.state, self.learner, self._plain_optimizer(), self.average)
        self.saved_at_s = self.progress.elapsed_s

    def finish(self) -> TrainResult:
        """Save, and score the kept weights on all frames that choose (unless interrupted)."""
        if self.fabric.is_global_zero:
            self._save_state()  # before the validation, which users may not want to wait for
            if self.kept is None or not self.interrupted:
                self._validate(None)
                self._save_state()  # the best score may be a new one
            if self.kept is None:
                raise UserError(
                    "no model was kept: on the frames looked at either no depth is known or the network's pictures are "
                    "no numbers; look at the dataset with pose2rgbd inspect, or use a lower --learning-rate"
                )
            if not self.interrupted:
                self._score_kept()
            self._export()
        self.fabric.barrier()
        return TrainResult(
            checkpoint=self.out / CHECKPOINT,
            scores=self.scores,
            scored_on=self.scored_on,
            baseline=self.baseline,
            epochs=self.state.step / self.steps_per_epoch,
            images=self.state.step * self.batch * self.fabric.world_size,
            seconds=self.progress.elapsed_s,
            interrupted=self.interrupted,
            depth_unit=self.data.depth_unit,
            description=self.judge.describe(self.scores, self.baseline),
            stopped=self.stopped,
        )

    def _export(self) -> None:
        """Put into the checkpoint what it needs where there is no PyTorch. No training fails by that."""
        family = family_of(self.config.model)
        if not (has_part(family, "backend") and has_part(family, "export")):
            return
        try:
            part_of(family, "export").export(self.out / CHECKPOINT)
        except UserError as error:
            logger.warning("the checkpoint does not run without PyTorch: %s", error)

    def _score_kept(self) -> None:
        assert self.kept is not None
        model = self._current()
        model.load_state_dict(self.kept)
        self.baseline = self.judge.baseline(self.scored)
        candidates = self.learner.candidates(model) if self.scored_on == "choose" else [model]
        scores = [self.judge.scores(each, self.scored) for each in candidates]
        best = min(range(len(candidates)), key=lambda index: self.judge.value(scores[index], self.baseline))
        model, self.scores = candidates[best], scores[best]
        self.kept = evaluators.to_store(model)
        self._save_checkpoint(model, self.scores)
        kept = "best" if self.keeps_best else "last"
        self.judge.draw(model, self.scored, self.out / "samples" / f"{kept}.png")


def _what_to_change(config: RunConfig, recipe: Recipe) -> str:
    """Of a run that collapsed: the settings its model has, with what they are."""
    parts = [f"try a --learning-rate other than {recipe.learning_rate:g} (lower first)"]
    if hasattr(config, "recipe"):
        parts.append(f"another --recipe than {config.recipe_name}")
    width = getattr(getattr(config, "posegan", config), "width", None)
    if width is not None:
        parts.append(f"a larger --width than {width:g}")
    return ", ".join(parts[:-1]) + " or " + parts[-1] if len(parts) > 1 else parts[0]


def _blending(decay: float) -> Any:
    """What AveragedModel calls on lists of tensors of one type: a running average, of whole numbers the latest.

    PyTorch's rounds an average of whole numbers down, so that a mark set during the run would never be seen in it.
    """
    blend = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(averages: list[Tensor], latest: list[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            blend(averages, latest, count)
            return
        for average, value in zip(averages, latest, strict=True):
            average.copy_(value)

    return update

"""PoseGAN's generator alone, on pixels: does it learn the pictures of the poses it is given?

    pose2rgbd import DATA/rgbd_7scenes_redkitchen kitchen
    python bench/posegan_generator.py kitchen --out bench/results/posegan_generator.md
    python bench/posegan_generator.py kitchen --steps 300 --octaves 0 3 --bias zero pytorch

For every combination: the share of the variance entering the first batch normalisation that the pose is the reason of,
and the RMS error (levels of 255) on training frames and on those that judge after some steps, with the mean training
image beside it. No discriminator, the default recipe's rate falling as a cosine, middle crops, the weights of the end.
`--bias pytorch` has the first layer begin with the bias of `nn.Linear`.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.reader import centre, frame_cache
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.models.posegan.config import PoseGANConfig, PoseGANSettings, blocks_of
from pose2rgbd_ros.models.posegan.learner import BETAS
from pose2rgbd_ros.models.posegan.network import Generator
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.data import TrainingData, open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import batches
from pose2rgbd_ros.training.trainer import learning_rate


def made(data: TrainingData, size: int, width: float, octaves: int, bias: str) -> Generator:
    """A generator with random weights."""
    config = PoseGANConfig(
        pose_dim=data.normalization.pose_dim,
        size=size,
        generator_width=width,
        blocks=blocks_of(PoseGANSettings(), size),
        pose_frequencies=octaves,
    )
    generator = Generator(config)
    if bias == "pytorch":
        bound = generator.linear.in_features**-0.5
        nn.init.uniform_(generator.linear.bias, -bound, bound)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def share_of_the_pose(generator: Generator, poses: Tensor) -> float:
    """Of the variance of each channel over poses and pixels, the share within a pixel; the mean over the channels."""
    seen: list[Tensor] = []
    block: nn.Module = generator.blocks[0].norm1  # type: ignore[assignment]
    handle = block.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    generator.eval()(poses)
    handle.remove()
    generator.train()
    within = seen[0].var(dim=0, correction=0).mean(dim=(1, 2))
    return float((within / seen[0].var(dim=(0, 2, 3), correction=0)).mean())


def targets(data: TrainingData, indices: np.ndarray) -> Tensor:
    """Recorded colour (B, 3, S, S) in [-1, 1]."""
    return data.truth(indices)[0] * 2 - 1


def judged(data: TrainingData) -> TrainingData:
    """The same with the frames that judge readable, which no training can open."""
    wide = frame_cache(data.dataset, data.cache.camera.width + 2 * data.margin)
    poses = torch.from_numpy(data.normalization.encode_pose(data.dataset.T_map_cam))
    return replace(data, cache=centre(wide, data.margin), T_map_cam=data.dataset.T_map_cam, poses=poses)


def train(generator: Generator, data: TrainingData, steps: int, batch: int, seed: int) -> None:
    """By the mean absolute difference of the pixels."""
    recipe = resolve_recipe(train_config(model="posegan"))
    optimizer = torch.optim.Adam(generator.parameters(), recipe.learning_rate, betas=BETAS, fused=True)
    random, order = np.random.default_rng(seed), np.empty(0, np.int64)
    for step in range(steps):
        if len(order) < batch:
            order = random.permutation(data.split.train)
        indices, order = order[:batch], order[batch:]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe.learning_rate, recipe.schedule, recipe.warmup, step / steps)
        loss = (generator(data.poses[indices]) - targets(data, indices)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def rmse_levels(shown: Generator | Tensor, data: TrainingData, indices: np.ndarray) -> float:
    """Root of the mean square over all pixels and channels of all frames, in levels of 255."""
    total = 0.0
    for chunk in batches(indices):
        image = shown if isinstance(shown, Tensor) else shown.eval()(data.poses[chunk])
        total += float((image - targets(data, chunk)).square().mean()) * len(chunk)
    return (total / len(indices)) ** 0.5 * 127.5


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.5, help="factor on the generator's channels")
    parser.add_argument("--octaves", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--bias", nargs="+", choices=("zero", "pytorch"), default=["pytorch", "zero"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = Table.of(
        {
            "octaves": "d", "first bias": "", "seed": "d", "of the variance by the pose": ".4f", "RMSE training": ".1f",
            "judging frames": ".1f",
        }
    )  # fmt: skip
    for seed in range(arguments.seeds):
        config = train_config(model="posegan", size=arguments.size, seed=seed, split="segments")
        data = open_training_data(arguments.dataset, config)
        mean = targets(data, data.split.train).mean(dim=0)
        parts, open_data = (data.split.train, data.split.judge), judged(data)
        table.add(None, "mean image", seed, "0", *(rmse_levels(mean, open_data, part) for part in parts))
        for octaves, bias in itertools.product(arguments.octaves, arguments.bias):
            torch.manual_seed(seed)
            generator = made(data, arguments.size, arguments.width, octaves, bias)
            share = share_of_the_pose(generator, data.poses[data.split.train])
            train(generator, data, arguments.steps, resolve_recipe(config).batch_size, seed)
            errors = (rmse_levels(generator, open_data, part) for part in parts)
            print(table.add(octaves, bias, seed, share, *errors), flush=True)
    head = (
        f"# PoseGAN's generator alone\n\n`python bench/posegan_generator.py {arguments.dataset.name} --size "
        f"{arguments.size} "
        f"--width {arguments.width:g} --steps {arguments.steps} --seeds {arguments.seeds}` on {processor()},\n"
        f"PyTorch {torch.__version__}; errors in levels of 255.\n\n"
    )
    text = head + table.markdown() + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()

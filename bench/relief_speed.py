"""Where the time of a relief picture goes, and the quick order of things against the plain one it must agree with.

    python bench/relief_speed.py                                          # a city of random towers (relief_city.py)
    python bench/relief_speed.py --run RUN --dataset DATASET              # a trained relief and the frames it was
                                                                          # trained on, for the error against them
    python bench/relief_speed.py --run RUN --dataset DATASET --write      # writes bench/results/relief_speed.md
    python bench/relief_speed.py --memory                                 # the city without, with a thin and with a
                                                                          # full memory of 64 frames, by turns

quick: `ReliefBackend`, which `Renderer` uses. plain: `PlainReliefBackend`, ray by ray, the shader in ONNX Runtime. They
take turns pose by pose in one process, one thread, RGBD; what counts is the median of the CPU time of a picture. The
exit status is 1 where quick is not twice as fast, or differs by more than 0.1 dB or 1 % of depth.

* With edges: quick with its rays at edges (`--edge-rays`), as flown; elsewhere both are without, for plain has none.
* Parts: the same kernels called for the whole picture one after another, so their sum is a little more than a picture.
* First: the small picture of `Renderer.progressive`, in which a side is a quarter, as a share of the whole one's time.
* Difference: between the pictures of the two, and between their errors against the recorded frames.
* Two threads: frames over time on the clock, which other programs on the machine do slow.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from relief_city import FOV_DEG, HEIGHT_M, relief_city, remembering, write_relief

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.models.relief import kernels, patch_kernels, winograd
from pose2rgbd_ros.models.relief.backend import ReliefBackend
from pose2rgbd_ros.models.relief.config import EXTRA_CHANNELS
from pose2rgbd_ros.models.relief.plain import PlainReliefBackend
from pose2rgbd_ros.rendering.renderer import PREVIEW
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

RESULT = Path(__file__).parent / "results" / "relief_speed.md"
SIZES, POSES, ROUNDS = (512, 256), 12, 5
LEAST_RATIO, MOST_DB, MOST_DEPTH = 2.0, 0.1, 0.01
HEADER = """# Speed of relief

`python bench/relief_speed.py{arguments}`: {machine}.
One thread, {poses} poses, {rounds} rounds by turns, median CPU time. What is measured how: its docstring.

Model: {model}.

"""


def blank(camera: Camera) -> RenderedImages:
    shape = (1, camera.height, camera.width)
    return RenderedImages(np.empty((*shape, 3), np.uint8), np.empty(shape, np.float32), np.empty(shape, np.float32))


def timed_ms(run: Callable[[], object]) -> float:
    """CPU milliseconds of the process."""
    started = time.process_time()
    run()
    return 1e3 * (time.process_time() - started)


class Place:
    """A relief, its renderers and poses to render."""

    def __init__(self, path: Path) -> None:
        loaded = load_checkpoint(checkpoint_directory(path))
        trained = loaded.config()
        self.trained, self.config = loaded.camera, replace(trained, edge_rays=1)  # the plain one has none at edges
        self.quick = ReliefBackend(self.config, loaded.state_dict, 1)
        self.plain = PlainReliefBackend(self.config, loaded.state_dict, 1)
        self.edges, self.two = (ReliefBackend(trained, loaded.state_dict, threads) for threads in (1, 2))
        T = loaded.training_T_map_cam
        self.T_map_cam = T[np.linspace(0, len(T) - 1, POSES).astype(int)]
        layers, rows, columns = self.config.shape
        self.words = (
            f"{layers} x {rows} x {columns} logits, patches of {self.config.unshuffle} x {self.config.unshuffle}, "
            f"{self.config.width} channels wide"
        )

    def camera(self, size: int) -> Camera:
        """The trained field of view in so many pixels."""
        return self.trained.resized(size, size)

    def ratio(self, size: int) -> dict[str, float]:
        """Median ms of a picture of both, of one with edges, of a first small one; frames a second of two threads."""
        camera, small = self.camera(size), self.camera(size // PREVIEW)
        out, tiny = blank(camera), blank(small)
        contestants: dict[str, Callable[[NDArray[np.float64]], None]] = {
            "plain": lambda T: self.plain.render(T, camera, out),
            "quick": lambda T: self.quick.render(T, camera, out),
            "edges": lambda T: self.edges.render(T, camera, out),
            "first": lambda T: self.quick.render(T, small, tiny),
        }
        times: dict[str, list[float]] = {name: [] for name in contestants}
        wall_s = []
        for number in range(ROUNDS + 1):
            for T in self.T_map_cam[:, None]:
                for name, run in contestants.items():
                    spent = timed_ms(lambda run=run, T=T: run(T))  # type: ignore[misc]
                    times[name] += [spent] * (number > 0)  # the first round finds nothing in the caches
                started = time.perf_counter()
                self.two.render(T, camera, out)
                wall_s += [time.perf_counter() - started] * (number > 0)
        return {name: float(np.median(each)) for name, each in times.items()} | {"fps": 1 / float(np.median(wall_s))}

    def parts(self, size: int) -> dict[str, tuple[float, float]]:
        """Median ms of the parts of a picture, plain and quick."""
        camera, found = self.camera(size), {}
        out = blank(camera)
        for T in np.repeat(self.T_map_cam, 3, axis=0):
            for which, measured in enumerate((self._plain_parts(T, camera, out), self._quick_parts(T, camera, out))):
                for name, ms in measured.items():
                    found.setdefault(name, ([], []))[which].append(ms)
        return {name: (float(np.median(plain)), float(np.median(quick))) for name, (plain, quick) in found.items()}

    def _plain_parts(self, T: NDArray[np.float64], camera: Camera, out: RenderedImages) -> dict[str, float]:
        backend, config = self.plain, self.config
        backend.render(T[None], camera, out)
        assert backend._frame is not None
        frame, tables, s, size = backend._frame[1], backend._tables, config.unshuffle, camera.height
        T_grid_cam = (backend._T_vol_map @ T)[:3] / np.array(config.step_m)[:, None]
        origin, flat = T_grid_cam[None, :, 3].astype(np.float32), frame.direction.reshape(-1, 3)
        view = np.float32(camera.focal_px), np.float32(config.depth_scale_m)
        block, lines = (tables.logits, tables.top, tables.around), frame.shader_input.shape[1]

        def march() -> None:
            backend._kernels.direct_rows(T_grid_cam, frame.rays, 0, size, frame.direction)
            kernels.march_rays(*block, origin, flat, 0, len(flat), frame.state, frame.found)

        seen = origin, frame.direction, frame.found, *view, s, 0, lines, frame.shader_input, frame.depth_m, frame.sure
        made = frame.shader_input, frame.residual, config.channels, np.float32(1), np.float32(1), s, 0, size
        return {
            "rays and march": timed_ms(march),
            "features": timed_ms(lambda: backend._kernels.look_up_rows(tables, *seen)),
            "shader": timed_ms(lambda: backend._shade(frame)),
            "finish": timed_ms(lambda: backend._kernels.compose_rows(*made, frame.depth_m, out.rgb[0], out.depth[0])),  # type: ignore[index]
        }

    def _quick_parts(self, T: NDArray[np.float64], camera: Camera, out: RenderedImages) -> dict[str, float]:
        backend, config, kernel = self.quick, self.config, patch_kernels
        backend.render(T[None], camera, out)
        frame, tables, s = backend._frames[camera], backend._tables, config.unshuffle
        T_grid_cam = (backend._T_vol_map @ T)[:3] / np.array(config.step_m)[:, None]
        origin, ground = T_grid_cam[:, 3].astype(np.float32), tables.maps.shape[1]
        view, features = (
            (np.float32(camera.focal_px), np.float32(config.depth_scale_m)),
            ground + tables.coarse.shape[3] + EXTRA_CHANNELS,
        )
        height, direction = frame.rays.shape[1], frame.direction
        rise = np.zeros((height, direction.shape[2]), np.float32)
        known, bands = (frame.depth_m, frame.sure), range(0, height, kernel.BEAM_PX)
        ends = [(first, min(first + kernel.BEAM_PX, height)) for first in bands]

        def march() -> None:
            for band in ends:
                kernel.direct_band(T_grid_cam, frame.rays, *band, direction)
                own = rise[band[0] : band[1]]
                beams = backend._volume, backend._beams, T_grid_cam, frame.bounds, origin, direction
                kernel.meet_band(*beams, *band, frame.state, frame.t, own)

        def look_up() -> None:
            for band in ends:
                own = rise[band[0] : band[1]]
                where = tables, origin, direction, frame.t, own, *view, s, features
                kernel.look_up_band(*where, *band, frame.images[0], *known)

        def shade() -> None:
            for number, layer in enumerate(backend._layers):
                margin, down = int(number < 2), -(-frame.patches[0] // winograd.TILE)
                images = frame.images[number : number + 2]
                buffers = backend._scratch[0][number]
                winograd.convolve(images[0], layer, *frame.patches, 0, down, margin, images[1], *buffers)

        recalled, light = 0, np.float32([[1, 1, 1], [0, 0, 0]])  # plain knows no memory and no light
        units = np.float32(1), np.float32(1)
        made = frame.images[0], frame.images[3], ground, recalled, light, *units, s, features, 0, height
        return {
            "rays and march": timed_ms(march),
            "features": timed_ms(look_up),
            "shader": timed_ms(shade),
            "finish": timed_ms(lambda: kernel.compose_band(*made, frame.depth_m, out.rgb[0], out.depth[0])),  # type: ignore[index]
        }

    def difference(self, size: int) -> tuple[int, float, float, float]:
        """Between quick and plain: most levels of colour, PSNR in dB, most depth as a share of it, and the share of
        pixels whose depth only one of them knows.
        """
        camera, levels, squares, depth, alone = self.camera(size), 0, [], 0.0, []
        for T in self.T_map_cam[:, None]:
            quick, plain = blank(camera), blank(camera)
            self.quick.render(T, camera, quick)
            self.plain.render(T, camera, plain)
            assert quick.rgb is not None
            assert plain.rgb is not None
            off = quick.rgb.astype(float) - plain.rgb
            levels, squares = max(levels, int(np.abs(off).max())), [*squares, float(np.mean(off**2))]
            assert quick.depth is not None
            assert plain.depth is not None
            depth = max(depth, float(np.nanmax(np.abs(quick.depth - plain.depth) / plain.depth)))
            alone.append(float((np.isnan(quick.depth) != np.isnan(plain.depth)).mean()))
        return levels, psnr_db(squares), depth, float(np.mean(alone))

    def errors(self, folder: Path) -> dict[str, tuple[float, float]]:
        """PSNR in dB and mean error of depth in metres against a dataset's frames, plain and quick."""
        dataset, found = Dataset(folder), {}
        chosen = np.linspace(0, len(dataset) - 1, 5 * POSES).astype(int)
        for name, backend in (("plain", self.plain), ("quick", self.quick)):
            squares, metres = [], []
            for number in chosen:
                out = blank(dataset.camera)
                backend.render(dataset.T_map_cam[[number]], dataset.camera, out)
                assert out.rgb is not None
                squares.append(float(np.mean((out.rgb[0].astype(float) - dataset.rgb(int(number))) ** 2)))
                metres.append(float(np.nanmean(np.abs(out.depth[0] - dataset.depth(int(number))))))  # type: ignore[index]
            found[name] = psnr_db(squares), float(np.mean(metres))
        return found


def memory_report() -> str:
    """Median ms of a picture of the city without a memory, and with one, by turns."""
    plain = relief_city()
    eye = np.random.default_rng(1).uniform((-60, -60, HEIGHT_M), (60, 60, HEIGHT_M + 5), (64, 3))
    T_map_cam = se3.look_at(eye, eye * (1.0, 1.0, 0.0) + (3.0, 2.0, 0.0))
    models = {"none": plain} | {kind: remembering(plain, kind, T_map_cam) for kind in ("thin", "full")}
    backends = {
        kind: ReliefBackend(model.config, {key: value.numpy() for key, value in model.state_dict().items()}, 1)
        for kind, model in models.items()
    }
    # Moved a little from the frames, as a flight between them is.
    poses = T_map_cam[:: len(T_map_cam) // POSES].copy()
    poses[:, 0, 3] += 2.0
    table = Table.of(
        {"size": "d", **{f"{kind} ms": ".1f" for kind in models}, "thin / none": ".2f", "full / none": ".2f"}
    )
    for size in reversed(SIZES):
        camera = Camera.from_fov(size, size, FOV_DEG)
        out, times = blank(camera), {kind: [] for kind in models}
        for number in range(ROUNDS + 1):
            for T in poses[:, None]:
                for kind, backend in backends.items():
                    spent = timed_ms(partial(backend.render, T, camera, out))
                    times[kind] += [spent] * (number > 0)
        ms = {kind: float(np.median(each)) for kind, each in times.items()}
        table.add(size, *ms.values(), ms["thin"] / ms["none"], ms["full"] / ms["none"])
    return str(table.markdown())


def psnr_db(squares: list[float]) -> float:
    """Of mean squared differences of 255 levels."""
    return float(10 * np.log10(255**2 / max(float(np.mean(squares)), 1e-9)))


def report(place: Place, dataset: Path | None, head: str) -> tuple[str, bool]:
    """The page, printed as it is made, and whether all that is asked for is met."""
    pages, good = [head], True
    columns = {"size": "d", "plain ms": ".1f", "quick ms": ".1f", "plain / quick": ".2f", "first ms": ".1f",
               "first / quick": ".0%", "with edges ms": ".1f", "with edges, 2 threads, FPS": ".1f"}  # fmt: skip
    table = Table.of(columns)
    for size in SIZES:
        ms = place.ratio(size)
        row = ms["plain"], ms["quick"], ms["plain"] / ms["quick"], ms["first"], ms["first"] / ms["quick"]
        table.add(size, *row, ms["edges"], ms["fps"])
        good = good and row[2] >= LEAST_RATIO and row[4] <= 1 / 3
    pages.append(table.markdown())
    table = Table.of({"part": "", **{f"{size}, {which} ms": ".1f" for size in SIZES for which in ("plain", "quick")}})
    parts = [place.parts(size) for size in SIZES]
    for name in parts[0]:
        table.add(name, *(ms for each in parts for ms in each[name]))
    pages.append(table.markdown())
    table = Table.of(
        {
            "size": "d",
            "most levels of 255": "d",
            "PSNR between them": ".1f",
            "most depth": ".5%",
            "known to one only": ".5%",
        }
    )
    for size in SIZES:
        levels, db, depth, alone = place.difference(size)
        table.add(size, levels, db, depth, alone)
        good = good and max(depth, alone) <= MOST_DEPTH
    pages.append(table.markdown())
    if dataset is not None:
        table = Table.of({"against recorded frames": "", "PSNR dB": ".3f", "depth m": ".4f"})
        errors = place.errors(dataset)
        for name, values in errors.items():
            table.add(name, *values)
        good = good and errors["plain"][0] - errors["quick"][0] <= MOST_DB
        pages.append(table.markdown())
    page = "\n\n".join(part.strip() for part in pages) + "\n"
    print(page)
    return page, good


def main() -> int:
    """Measure, print, perhaps write; 1 where something asked for is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run folder or checkpoint of a relief")
    parser.add_argument("--dataset", type=Path, help="dataset to compare with")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--memory", action="store_true", help="what a memory of frames costs, and nothing else")
    options = parser.parse_args()
    if options.memory:
        print(memory_report())
        return 0
    machine = described()
    with tempfile.TemporaryDirectory() as folder:
        if options.run is None:
            write_relief(Path(folder) / "checkpoint", SIZES[0])
        place = Place(options.run or Path(folder) / "checkpoint")
    arguments = " --run RUN --dataset DATASET" if options.dataset else " --run RUN" if options.run else ""
    what = "a city of random towers" if options.run is None else "a trained relief"
    head = HEADER.format(
        arguments=arguments, machine=machine, poses=POSES, rounds=ROUNDS, model=f"{what}, {place.words}"
    )
    page, good = report(place, options.dataset, head)
    if options.write:
        RESULT.write_text(page)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

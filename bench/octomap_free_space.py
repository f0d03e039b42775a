"""How much of predicted depth's free space is free: clouds of the avoid node in a real octomap, inserted as
octomap_server does.

    sudo apt install liboctomap-dev                   # and a C++ compiler; needs OpenGL for the simulated city
    python bench/octomap_free_space.py                # a minute; writes bench/results/octomap_free_space.md

A street of the simulated city, eight views 2 s apart, the relief model of test_sim_render_avoid.py: the city's
heights on 2 m cells, calibrated on a flight through the street, its north-east never seen. Clouds are made by the
avoid node's own code with each preset's parameters: points at the lower bound of depth, the nearest known of 4 x 4
pixels. They go into liboctomap's OcTree with the preset's resolution and range and octomap_server's own sensor model:
*rays* as OctomapServer::insertScan does (a ray frees the cells up to its point, which is occupied), *marks* as
TrackingOctomapServer::trackCallback does (the intensity is added to the point's cell, nothing else). The third row
has `sensor_model.miss` at 0.5, as if a miss then said nothing.

Judged by the simulator's depth of the same views. *True surface cells*: sampled ones that hold a true surface point.
*Unknown rays*: sampled pixels without a depth, half way to the true surface, or to the range where there is only sky.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))
from support.city_relief import write_city_relief, write_recording

from pose2rgbd_ros.evaluation.calibrate_depth import calibrate
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.view import marks_of, organised_cloud
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "octomap_free_space.md"
FLIGHT = FlightConfig(plan="street", distance_m=300.0, seed=1)
CAMERA = Camera.from_fov(128, 128, 90.0)
CLOUDS, STEP_S, SURFACE_CELLS, UNKNOWN_RAYS = 8, 2.0, 2048, 2048
VARIANTS = {  # name: (preset, how it is inserted, sensor_model.miss)
    "`octomap_server`: marks": ("octomap_server", "marks", 0.4),
    "`octomap_server_freeing`: rays": ("octomap_server_freeing", "rays", 0.4),
    "rays, `sensor_model.miss: 0.5`": ("octomap_server_freeing", "rays", 0.5),
}
SERVER = r"""
#include <octomap/octomap.h>
#include <cstdio>
#include <cstring>
#include <vector>
using namespace octomap;

// argv: marks|rays resolution max_range miss. In, all float32: number of clouds; of each its origin, number of points,
// x y z intensity of each; number of questions, x y z of each. Out: a line of free and occupied cells after each cloud,
// then f, o or u per question.
static float number() { float v; if (fread(&v, 4, 1, stdin) != 1) exit(3); return v; }
static point3d place() { float x = number(), y = number(), z = number(); return point3d(x, y, z); }

int main(int, char **argv) {
  const bool marks = !strcmp(argv[1], "marks");
  const double range = atof(argv[3]);
  OcTree tree(atof(argv[2]));
  tree.setProbHit(0.7); tree.setProbMiss(atof(argv[4]));
  tree.setClampingThresMin(0.12); tree.setClampingThresMax(0.97);
  for (int cloud = 0, clouds = int(number()); cloud < clouds; ++cloud) {
    const point3d origin = place();
    KeySet free_cells, occupied;
    KeyRay ray;
    for (int i = 0, n = int(number()); i < n; ++i) {
      const point3d point = place();
      const float intensity = number();
      if (marks) { tree.updateNode(tree.coordToKey(point), intensity, false); continue; }
      const bool within = range < 0 || (point - origin).norm() <= range;
      const point3d end = within ? point : origin + (point - origin).normalized() * range;
      OcTreeKey key;
      if (tree.computeRayKeys(origin, end, ray)) free_cells.insert(ray.begin(), ray.end());
      if (tree.coordToKeyChecked(end, key)) (within ? occupied : free_cells).insert(key);
    }
    for (const auto &key : free_cells) if (!occupied.count(key)) tree.updateNode(key, false);
    for (const auto &key : occupied) tree.updateNode(key, true);
    if (marks) tree.updateInnerOccupancy();
    size_t counts[2] = {0, 0};
    OcTree leaves(tree);
    leaves.expand();
    for (auto leaf = leaves.begin_leafs(); leaf != leaves.end_leafs(); ++leaf) ++counts[leaves.isNodeOccupied(*leaf)];
    printf("%zu %zu\n", counts[0], counts[1]);
  }
  for (int i = 0, n = int(number()); i < n; ++i) {
    const OcTreeNode *node = tree.search(place());
    putchar(node ? tree.isNodeOccupied(node) ? 'o' : 'f' : 'u');
  }
}
"""


def built(folder: Path) -> Path:
    """The program; SystemExit says how to install what it needs."""
    source, program = folder / "server.cpp", folder / "server"
    source.write_text(SERVER)
    try:
        done = subprocess.run(
            ["c++", "-O2", "-o", program, source, "-loctomap", "-loctomath"], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise SystemExit("no c++ found; Debian, Ubuntu: apt install build-essential liboctomap-dev") from None
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise SystemExit(f"octomap is not here ({first.strip()}); Debian, Ubuntu: apt install liboctomap-dev")
    return program


def version() -> str:
    """Of the octomap that is installed."""
    asked = subprocess.run(["pkg-config", "--modversion", "octomap"], capture_output=True, text=True)
    return asked.stdout.strip() or "of unknown version"


class Views:
    """What the model and the simulator say of the same poses."""

    def __init__(self, folder: Path) -> None:
        city = City(CityConfig())
        flight = make_flight(FLIGHT, city)
        seen_s = np.arange(0.0, 16.0, 0.5)
        trained = flight.T_map_cam(seen_s)
        model = write_city_relief(folder / "city", city, trained, CAMERA, trained[0, :2, 3])
        calibrate(model, write_recording(folder / "seen", city, flight.T_map_cam(seen_s + 0.25), CAMERA))
        self.T_map_cam = flight.T_map_cam(np.arange(CLOUDS) * STEP_S + 0.4)
        self.lower_m = Renderer(model).render(self.T_map_cam).depth_lower
        with SceneRenderer(city.scene, CAMERA, shadows=False) as eye:
            self.true_m = np.stack([eye.render(T).depth_m for T in self.T_map_cam])

    def points(self, preset: str) -> list[np.ndarray]:
        """Known points of each view in the map, with a mark's intensity (N, 4), as the preset has the avoid node make
        them.
        """
        every = parameters(f"{preset}.yaml", "/**/avoid")["cloud_every"]
        return [
            marks_of(organised_cloud(lower, CAMERA, T, every))
            for lower, T in zip(self.lower_m, self.T_map_cam, strict=True)
        ]

    def surface(self, cell_m: float) -> np.ndarray:
        """Middles (N, 3) of sampled cells that hold a true surface point which some view shows."""
        points = [organised_cloud(true, CAMERA, T) for true, T in zip(self.true_m, self.T_map_cam, strict=True)]
        keys = np.floor(np.concatenate([p[np.isfinite(p).all(axis=-1)] for p in points]) / cell_m)
        return sampled((np.unique(keys, axis=0) + 0.5) * cell_m, SURFACE_CELLS)

    def unknown(self, range_m: float) -> np.ndarray:
        """Points (N, 3) in the map, half way along sampled rays of unknown depth."""
        found = []
        for lower, true, T in zip(self.lower_m, self.true_m, self.T_map_cam, strict=True):
            half = np.where(np.isfinite(true), np.minimum(true, range_m), range_m) / 2
            points = organised_cloud(half.astype(np.float32), CAMERA, T)
            found.append(points[np.isnan(lower)])
        return sampled(np.concatenate(found), UNKNOWN_RAYS)


def sampled(points: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, by chance and always the same."""
    return np.random.default_rng(0).permutation(points)[:most]


def parameters(name: str, node: str) -> dict:
    """ros__parameters of a node in a preset's file."""
    return read_yaml(ROOT / "config" / "presets" / name)[node]["ros__parameters"]


def inserted(program: Path, views: Views, preset: str, how: str, miss: float) -> dict[str, str]:
    """A row of the table."""
    consumer = parameters(f"{preset}_consumer.yaml", "/**")
    cell_m, range_m = consumer["resolution"], consumer.get("sensor_model.max_range", -1.0)
    reach_m = parameters("octomap_server_freeing_consumer.yaml", "/**")["sensor_model.max_range"]
    surface, unknown = views.surface(cell_m), views.unknown(reach_m)
    asked = np.concatenate([surface, unknown])
    clouds = [
        part
        for T, points in zip(views.T_map_cam, views.points(preset), strict=True)
        for part in (T[:3, 3], [len(points)], points.ravel())
    ]
    words = np.concatenate([[CLOUDS], *clouds, [len(asked)], asked.ravel()]).astype(np.float32)
    call = [program, how, str(cell_m), str(range_m), str(miss)]
    *counts, answers = (
        subprocess.run(call, input=words.tobytes(), capture_output=True, check=True).stdout.decode().split("\n")
    )
    of_surface, of_unknown = answers[: len(surface)], answers[len(surface) :]
    return {
        "cells freed by one cloud": f"{int(counts[0].split()[0]):,}",
        "free and occupied after eight": " and ".join(f"{int(n):,}" for n in counts[-1].split()),
        "true surface cells free": f"{of_surface.count('f')} of {len(surface):,}",
        "true surface cells occupied": f"{of_surface.count('o')} of {len(surface):,}",
        "samples on unknown rays free": f"{of_unknown.count('f')} of {len(unknown):,}",
        "occupied": f"{of_unknown.count('o')} of {len(unknown):,}",
    }


def main() -> None:
    """Insert the clouds both ways and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = built(folder)
        views = Views(folder)
        rows = {name: inserted(program, views, *variant) for name, variant in VARIANTS.items()}
    columns = [Column("", "")] + [Column(name, format="s") for name in next(iter(rows.values()))]
    table = Table(columns, [{"": name, **row} for name, row in rows.items()])
    known = np.isfinite(views.lower_m).mean()
    RESULTS.write_text(
        "# Free space from predicted depth, in octomap\n\n"
        f"`python bench/octomap_free_space.py`: octomap {version()}, {CLOUDS} views of {CAMERA.width} px {STEP_S:.0f} "
        "s apart "
        f"in a street of the simulated city, depth known in {known:.0%} of the pixels, cells of 0.5 m "
        f"({processor()}).\n\n"
        f"{table.markdown()}\n"
    )
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()

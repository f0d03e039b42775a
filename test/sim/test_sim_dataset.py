"""`pose2rgbd sim dataset`: what is in the folder, that it is the same every time, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from support.sim_datasets import BUSY, SMALL, city_of, command_line, files_of, share_world

from pose2rgbd_ros.cli import sim as sim_command
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.inspect import inspect
from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sim import state
from pose2rgbd_ros.sim.dataset import write_sim_dataset
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module", autouse=True)
def shared_world():
    """Datasets of this process share their cities; those that must not are made by processes of their own."""
    with pytest.MonkeyPatch.context() as patched:
        share_world(patched)
        yield


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Path:
    """A dataset of a city where nothing moves."""
    path = tmp_path_factory.mktemp("sim") / "quiet"
    assert write_sim_dataset(path, SMALL).summary() == f"{path}: 12 frames"
    return path


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Path:
    """A dataset of a city with traffic."""
    path = tmp_path_factory.mktemp("sim") / "busy"
    write_sim_dataset(path, BUSY)
    return path


def test_frames_are_what_the_renderer_sees_along_the_flight(quiet):
    dataset, city = Dataset(quiet), city_of(SMALL.city)
    flight = make_flight(SMALL.flight, city)
    t_s = (dataset.stamps_ns - state.START_NS) / 1e9
    np.testing.assert_allclose(t_s, np.arange(12) * flight.duration_s / 12, atol=1e-9)
    np.testing.assert_allclose(dataset.T_map_cam, flight.T_map_cam(t_s), atol=2e-8)
    with SceneRenderer(city.scene, dataset.camera) as renderer:
        for i in (0, 7):
            view = renderer.render(dataset.T_map_cam[i], t_s[i])
            np.testing.assert_allclose(dataset.depth(i), view.depth_m, atol=0.0051)
            difference = np.abs(dataset.rgb(i).astype(int) - view.rgb)
            assert np.median(difference) <= 4, "beyond what JPEG costs"


def test_the_facts_are_told(quiet):
    meta = Dataset(quiet).meta
    assert (meta.map_frame, meta.camera_frame, meta.datum) == (state.MAP, state.CAMERA, state.DATUM)
    assert (meta.depth.kind, meta.depth.storage, meta.depth.unit_m) == ("metric", "counts", 0.01)
    assert (meta.camera.width, meta.camera.height, meta.camera.cx) == (48, 48, 23.5)
    assert [(source.name, source.frames) for source in meta.sources] == [("orbit flight over the simulated city", 12)]
    assert {p.suffix for p in (quiet / "rgb").iterdir()} == {".jpg"}
    told = yaml.safe_load((quiet / "sim.yaml").read_text())
    assert told["city"]["extent_m"] == 200.0
    assert told["flight"]["speed_mps"] > 0, "the plan's own value is resolved"
    assert "processes" not in told


def test_the_flights_own_lines_are_held_out(quiet):
    dataset = Dataset(quiet)
    labels = read_split(quiet / layout.SPLIT, dataset.stamps_ns)
    t_s = (dataset.stamps_ns - state.START_NS) / 1e9
    np.testing.assert_array_equal(labels, make_flight(SMALL.flight, None).split(t_s))
    assert {"train", "test"} <= set(labels.tolist())


def test_a_flight_without_held_out_lines_brings_no_split(tmp_path):
    write_sim_dataset(tmp_path / "set", replace(SMALL, frames=2, flight=replace(SMALL.flight, holdout=0.0)))
    assert not (tmp_path / "set" / layout.SPLIT).exists()


def test_the_bytes_are_the_same_again_and_with_two_processes(quiet, busy, tmp_path):
    write_sim_dataset(tmp_path / "again", SMALL)
    assert files_of(tmp_path / "again") == files_of(quiet)
    write_sim_dataset(tmp_path / "two", replace(BUSY, processes=2))
    assert files_of(tmp_path / "two") == files_of(busy)


def test_png_and_float_depth_hold_exactly_what_was_rendered(tmp_path):
    path = tmp_path / "set"
    write_sim_dataset(path, replace(SMALL, frames=2, image="png", depth="float"))
    dataset, scene = Dataset(path), city_of(SMALL.city).scene
    assert dataset.meta.depth.storage == "float"
    with SceneRenderer(scene, dataset.camera) as renderer:
        view = renderer.render(dataset.T_map_cam[1])
    # The poses in the files are rounded to nanometres, which may just be seen.
    assert np.mean(dataset.rgb(1) == view.rgb) > 0.999
    np.testing.assert_allclose(dataset.depth(1), view.depth_m, atol=1e-3)


def test_labels_tell_where_a_frame_differs_from_its_twin_without_movers(busy):
    dataset, twin = Dataset(busy), Dataset(busy / "mover_free")
    np.testing.assert_array_equal(dataset.stamps_ns, twin.stamps_ns)
    np.testing.assert_array_equal(dataset.T_map_cam, twin.T_map_cam)
    assert (busy / "mover_free" / layout.SPLIT).read_bytes() == (busy / layout.SPLIT).read_bytes()
    counts, quiet_frames = np.zeros(3, int), 0
    for i, stamp in enumerate(dataset.stamps_ns):
        labels = cv2.imread(str(busy / "movers" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8
        counts += np.bincount(labels.ravel(), minlength=3)
        same = (dataset.depth(i) == twin.depth(i)) | (np.isnan(dataset.depth(i)) & np.isnan(twin.depth(i)))
        assert same[labels != 1].all(), "only a mover itself has another depth"
        for name in (dataset.records[i].rgb, dataset.records[i].depth):
            assert (busy / name).samefile(busy / "mover_free" / name) == (not labels.any())
        quiet_frames += not labels.any()
    assert (counts > 0).all(), f"static, mover and shadow pixels: {counts}"
    assert 0 < quiet_frames < len(dataset), "some frames show nothing that moves: they share their files"


def test_readers_do_not_stumble_over_the_folders_of_movers(busy, tmp_path):
    assert "12, colour and metric depth" in inspect(Dataset(busy), tmp_path / "look").text
    assert layout.require_room(busy, resume=True) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "frames is 0; it must be at least 1"),
        (["--frames", "-5"], "frames is -5"),
        (["--size", "100000"], "size is 100000; it must be at most"),
        (["--size", "1"], "size is 1; it must be at least 16"),
        (["--fov-deg", "nan"], "fov_deg is nan"),
        (["--supersample", "0"], "supersample is 0"),
        (["--city.extent-m", "1"], "city.extent_m is 1.0; it must be at least"),
        (["--flight.speed-mps", "1e9"], "flight.speed_mps is 1000000000.0"),
    ],
)
def test_absurd_settings_are_refused_before_any_work(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        sim_command.main(["dataset", str(tmp_path / "set"), *options])
    assert not (tmp_path / "set").exists()


def test_a_flight_below_the_roofs_is_refused_in_one_line(tmp_path):
    low = replace(SMALL, flight=replace(SMALL.flight, altitude_m=4.0))
    with pytest.raises(UserError) as error:
        write_sim_dataset(tmp_path / "set", low)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_a_folder_with_other_things_is_left_alone(quiet, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no dataset"):
        write_sim_dataset(tmp_path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="already holds a dataset of 12 frames; --resume"):
        write_sim_dataset(quiet, SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_sim_dataset(tmp_path / "file", SMALL)


def test_a_second_process_on_the_same_folder_is_refused(quiet):
    lock = layout.FolderLock(quiet)
    try:
        with pytest.raises(UserError, match="is being written by another process; wait for it"):
            write_sim_dataset(quiet, replace(SMALL, resume=True))
    finally:
        lock.release()


def test_a_dataset_of_something_else_is_not_completed(tmp_path, flight_dataset):
    path = flight_dataset(tmp_path / "set", frames=3)
    with pytest.raises(UserError, match=r"no simulator made \(no sim.yaml\)"):
        write_sim_dataset(path, replace(SMALL, resume=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fov_deg": 70.0}, "fov_deg 60.0, not 70.0"),
        ({"frames": 13}, "frames 12, not 13"),
        ({"city": replace(SMALL.city, seed=3)}, "city.seed 0, not 3"),
        ({"flight": replace(SMALL.flight, speed_mps=5.0)}, r"flight.speed_mps 6.0, not 5.0"),
    ],
)
def test_resuming_with_another_setting_names_it(quiet, change, message):
    before = files_of(quiet)
    with pytest.raises(UserError, match=f"begun with {message}; resume with the same settings"):
        write_sim_dataset(quiet, replace(SMALL, resume=True, **change))
    assert files_of(quiet) == before


def test_resuming_what_is_complete_changes_nothing(busy):
    before = files_of(busy)
    made = write_sim_dataset(busy, replace(BUSY, resume=True, processes=2))
    assert (made.frames, made.rendered) == (12, 0)
    assert made.summary().endswith("12 frames, 12 of them from before")
    assert files_of(busy) == before


def test_the_command_says_what_it_made(tmp_path, capsys):
    path = tmp_path / "set"
    assert sim_command.main(["dataset", str(path), *command_line(replace(SMALL, frames=2))]) == 0
    made, following = capsys.readouterr().out.splitlines()
    assert made == f"{path}: 2 frames"
    assert following.startswith(f"next: pose2rgbd train relief {path} ")
    assert len(Dataset(path)) == 2


def test_help_tells_the_settings_of_all_parts(capsys):
    with pytest.raises(SystemExit):
        sim_command.main(["dataset", "--help"])
    shown = capsys.readouterr().out
    for text in ("--frames", "11085", "--city.seed", "--flight.plan", "draws the city", "complete a dataset"):
        assert text in shown


def test_an_unknown_kind_is_told_with_the_known_ones(capsys):
    assert sim_command.main(["datset"]) == 2
    assert sim_command.main([]) == 2
    shown = capsys.readouterr().err
    assert "sim has no 'datset'" in shown
    assert "dataset" in shown
    assert sim_command.main(["--help"]) == 0


def test_without_opengl_the_one_line_reaches_the_user_and_nothing_hangs(tmp_path):
    """A machine without EGL devices, made with what EGL's loader offers for it."""
    code = "import sys; from pose2rgbd_ros.cli.main import main; sys.exit(main(['sim', 'dataset', *sys.argv[1:]]))"
    (tmp_path / "no_vendors").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "set"), *command_line(replace(SMALL, frames=1, processes=2))],
        env={"PATH": "", "__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path / "no_vendors")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "apt install" in errors[0]
    assert "Traceback" not in done.stderr


def test_a_model_keeps_the_settings_of_the_simulator(quiet, tmp_path):
    """So the live simulator can fly it where it was trained."""
    settings = train_config(
        model="base", size=32, width=0.125, epochs=1, batch_size=4, device="cpu", tensorboard=False, keep="last"
    )
    train(quiet, tmp_path / "run", settings)
    flown = load_checkpoint(tmp_path / "run").provenance["simulation"]
    assert flown == Dataset(quiet).meta.simulation
    assert flown == SMALL.provenance()

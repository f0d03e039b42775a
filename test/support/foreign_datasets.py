"""Tiny datasets in the original layout of each format, written from the formats' own pages and not by our exporters.

All show the same flight, in numbers put down by hand: camera i stands at (10 + i, 20, 3), looks along the world's +y
    with the world's z up in the image; in KITTI, whose world is the first camera, it moves to its right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, FRAMES = 16, 12, 4
H = 0.7071067811865476  # half of the square root of two: quaternions of quarter turns


def rgb(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def counts(i: int) -> np.ndarray:
    """16 bit depth with an unknown pixel of either kind (0, 65535)."""
    values = np.random.default_rng(100 + i).integers(500, 60_000, (HEIGHT, WIDTH), dtype=np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    return values


def write_image(file: Path, i: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), rgb(i)[..., ::-1])


def write_depth(file: Path, i: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), counts(i))


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def tum(root: Path) -> None:
    """Poses at 100 Hz beside images at 30 Hz; depth is some milliseconds off. x y z, then quaternion x y z w."""
    colour, depth, poses = [], [], []
    for i in range(FRAMES):
        stamp = 1305031102.175304 + i / 30
        colour.append(f"{stamp:.6f} rgb/{stamp:.6f}.png")
        depth.append(f"{stamp - 0.004:.6f} depth/{stamp - 0.004:.6f}.png")
        write_image(root / f"rgb/{stamp:.6f}.png", i)
        write_depth(root / f"depth/{stamp - 0.004:.6f}.png", i)
    for k in range(-2, 20):
        stamp = 1305031102.175304 + k / 100
        poses.append(f"{stamp:.6f} {10 + 30 * k / 100:.6f} 20.0 3.0 {-H} 0 0 {H}")
    header = "# {}\n# file: 'rgbd_dataset_freiburg1_xyz.bag'\n# timestamp {}\n"
    write(root / "rgb.txt", header.format("color images", "filename") + "\n".join(colour) + "\n")
    write(root / "depth.txt", header.format("depth maps", "filename") + "\n".join(depth) + "\n")
    write(
        root / "groundtruth.txt",
        header.format("ground truth trajectory", "tx ty tz qx qy qz qw") + "\n".join(poses) + "\n",
    )


def kitti(root: Path) -> None:
    """sequences/04 with the grey and the colour left camera; camera 2 stands 0.06 m to the left of camera 0."""
    sequence = root / "sequences" / "04"
    for i in range(FRAMES):
        write_image(sequence / f"image_2/{i:06d}.png", i)
        write_image(sequence / f"image_0/{i:06d}.png", 50 + i)
    P = "2.000000e+01 0.000000e+00 7.500000e+00 {} 0.000000e+00 2.000000e+01 5.500000e+00 0.000000e+00 " + (
        "0.000000e+00 0.000000e+00 1.000000e+00 0.000000e+00"
    )
    offsets = ["0.000000e+00", "-1.080000e+01", "1.200000e+00", "-9.600000e+00"]
    write(sequence / "calib.txt", "".join(f"P{n}: {P.format(b)}\n" for n, b in enumerate(offsets)))
    write(sequence / "times.txt", "".join(f"{0.1037359 * i:e}\n" for i in range(FRAMES)))
    rows = [
        f"1.000000e+00 0.000000e+00 0.000000e+00 {i:e} 0.000000e+00 1.000000e+00 0.000000e+00 "
        "0.000000e+00 0.000000e+00 0.000000e+00 1.000000e+00 0.000000e+00\n"
        for i in range(FRAMES)
    ]
    write(root / "poses" / "04.txt", "".join(rows))


def colmap(root: Path) -> None:
    """The text model beside its images. World to camera: R = (x, -z, y), t = -R (10 + i, 20, 3)."""
    rows = []
    for i in range(FRAMES):
        write_image(root / f"images/frame{i + 1:05d}.png", i)
        rows.append(f"{i + 7} {H} {H} 0 0 {-10 - i} 3 -20 1 frame{i + 1:05d}.png")
        rows.append("8.5 6.5 -1 3.25 4.0 -1" if i else "")  # an image without keypoints has an empty line
    head = "# Image list with two lines of data per image:\n#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
    write(root / "sparse/0/images.txt", head + "#   POINTS2D[] as (X, Y, POINT3D_ID)\n" + "\n".join(rows) + "\n")
    write(
        root / "sparse/0/cameras.txt",
        "# Camera list with one line of data per camera:\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
        f"# Number of cameras: 1\n1 OPENCV {WIDTH} {HEIGHT} 20 20.5 8 6 0.1 -0.05 0.001 0.002\n",
    )
    write(root / "sparse/0/points3D.txt", "# 3D point list with one line of data per point:\n")


def nerfstudio(root: Path) -> None:
    """transforms.json with depth. Camera to world, OpenGL axes: x right, y up, z back."""
    frames = []
    for i in range(FRAMES):
        write_image(root / f"images/frame_{i + 1:05d}.png", i)
        write_depth(root / f"depth/frame_{i + 1:05d}.png", i)
        frames.append(
            {
                "file_path": f"images/frame_{i + 1:05d}.png",
                "depth_file_path": f"depth/frame_{i + 1:05d}.png",
                "transform_matrix": [
                    [1.0, 0.0, 0.0, 10.0 + i],
                    [0.0, 0.0, -1.0, 20.0],
                    [0.0, 1.0, 0.0, 3.0],
                    [0.0, 0.0, 0.0, 1.0],
                ],
            }
        )
    content = {
        **{"camera_model": "OPENCV", "fl_x": 20.0, "fl_y": 20.5, "cx": 8.0, "cy": 6.0, "w": WIDTH, "h": HEIGHT},
        **{"k1": 0.1, "k2": -0.05, "p1": 0.001, "p2": 0.002},
        **{
            "train_filenames": [frame["file_path"] for frame in frames[:2]],
            "val_filenames": [frames[2]["file_path"]],
            "test_filenames": [frames[2]["file_path"]],
        },
        "frames": frames,
    }
    write(root / "transforms.json", json.dumps(content, indent=4))


def euroc(root: Path) -> None:
    """mav0. The body flies facing +y (a quarter turn about z); the camera sits 0.1 m ahead of it, looking forward."""
    start, images, poses = 1403636579763555584, [], []
    for i in range(FRAMES):
        stamp = start + i * 50_000_000
        images.append(f"{stamp},{stamp}.png")
        write_image(root / f"mav0/cam0/data/{stamp}.png", i)
    for k in range(-1, 40):
        stamp, x = start + k * 5_000_000 + 1_000_000, 10 + (k * 5 + 1) / 50
        poses.append(f"{stamp},{x:.6f},19.900000,3.000000,{H},0,0,{H}" + ",0" * 9)
    write(root / "mav0/cam0/data.csv", "#timestamp [ns],filename\n" + "\n".join(images) + "\n")
    write(
        root / "mav0/cam0/sensor.yaml",
        "# General sensor definitions.\nsensor_type: camera\ncomment: VI-Sensor cam0 (MT9M034)\n\n"
        "# Sensor extrinsics wrt. the body-frame.\nT_BS:\n  cols: 4\n  rows: 4\n"
        "  data: [0.0, 0.0, 1.0, 0.1,\n         -1.0, 0.0, 0.0, 0.0,\n"
        "         0.0, -1.0, 0.0, 0.0,\n         0.0, 0.0, 0.0, 1.0]\n\n"
        f"# Camera specific definitions.\nrate_hz: 20\nresolution: [{WIDTH}, {HEIGHT}]\ncamera_model: pinhole\n"
        "intrinsics: [20.0, 20.5, 7.5, 5.5] #fu, fv, cu, cv\ndistortion_model: radial-tangential\n"
        "distortion_coefficients: [0.1, -0.05, 0.001, 0.002]\n",
    )
    head = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"
    write(root / "mav0/state_groundtruth_estimate0/data.csv", head + "\n".join(poses) + "\n")


def seven_scenes(root: Path) -> None:
    """Two sequences of two frames, one to train and one to test on; poses with tabs, as Microsoft's are."""
    for i in range(FRAMES):
        base = root / f"seq-{i // 2 + 1:02d}" / f"frame-{i % 2:06d}"
        write_image(base.with_name(base.name + ".color.png"), i)
        write_depth(base.with_name(base.name + ".depth.png"), i)
        rows = [[1, 0, 0, 10 + i], [0, 0, 1, 20], [0, -1, 0, 3], [0, 0, 0, 1]]
        text = "".join("\t ".join(f"{value: .7e}" for value in row) + "\t \n" for row in rows)
        write(base.with_name(base.name + ".pose.txt"), text)
    write(root / "TrainSplit.txt", "sequence1\n")
    write(root / "TestSplit.txt", "sequence2\n")
    write(root / "camera-intrinsics.txt", "20.0 0.0 7.5\n0.0 20.5 5.5\n0.0 0.0 1.0\n")


def cambridge(root: Path) -> None:
    """Camera position, and the quaternion w p q r that takes the world's axes to the camera's: a quarter turn about
    x.
    """
    head = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
    rows = [f"seq{i // 2 + 1}/frame{i % 2 + 1:05d}.png {10 + i} 20 3 {H} {H} 0 0\n" for i in range(FRAMES)]
    for i, row in enumerate(rows):
        write_image(root / row.split()[0], i)
    write(root / "dataset_train.txt", head + rows[0] + rows[1])
    write(root / "dataset_test.txt", head + rows[2] + rows[3])


WRITERS: dict[str, Callable[[Path], None]] = {
    "nerfstudio": nerfstudio,
    "tum": tum,
    "kitti": kitti,
    "euroc": euroc,
    "7scenes": seven_scenes,
    "cambridge": cambridge,
    "colmap": colmap,
}

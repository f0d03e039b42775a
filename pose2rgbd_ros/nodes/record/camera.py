"""One camera of a recording: its images meet their depth and pose, and become frames of a dataset."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.alignment.live import AlignmentCheck
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import UNREADABLE, typestore
from pose2rgbd_ros.dataset.encode import camera_of_images
from pose2rgbd_ros.dataset.filters import FrameFilter
from pose2rgbd_ros.dataset.ingest import WRITTEN, FrameIngest, Outcome
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.record.inputs import RawMessage
from pose2rgbd_ros.nodes.record.poses import LivePoses, place_on_earth
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import Stats
from pose2rgbd_ros.poses import gps
from pose2rgbd_ros.poses.camera_pose import PendingCameraPoses
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample
from pose2rgbd_ros.streams.synchronizer import Frame, Reject, Settled, SyncConfig, Synchronizer

REPORT = "record_report.yaml"
_Pair = tuple[int, RawMessage]  # the stamp that counts, and the message


class CameraRecording:
    """Belongs to the recorder's worker thread, but for `tally`.

    Images wait until it is known whether there is depth and a calibration (see `_ready`), then in the synchroniser for
    their depth and pose. `depth_published` says whether depth has a publisher. UserError when the folder cannot take
    a recording: it holds frames and `resume` is off, or is no dataset.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: RecordSettings,
        poses: LivePoses,
        tally: Stats,
        depth_published: Callable[[], bool],
    ) -> None:
        self.name, self.folder, self.tally = name, folder, tally
        self.notes: list[str] = []
        self.alignment: AlignmentCheck | None = None  # where this camera's stamps are to be checked
        self._settings, self._poses = settings, poses
        self._depth_published = depth_published
        self._early: deque[tuple[str, _Pair]] = deque()
        self._first_s: float | None = None
        self._frame_id = ""
        self._source: PendingCameraPoses | None = None
        self._sync: Synchronizer | None = None
        self._ingest = FrameIngest(folder, settings)
        self._under_way: deque[RawMessage] = deque()  # what the ingest has, the oldest first

    # What arrives ----------------------------------------------------------------------------------------------

    def image(self, pair: _Pair) -> None:
        """Take an image."""
        if self.alignment is not None:
            self.alignment.offer_image(pair[0], lambda: decode.image_sample(_message(pair[1]), pair[0]))
        if self._sync is None:
            if self._first_s is None:
                self._first_s = pair[1].arrived_s
                self._frame_id = _frame_id(pair[1])
            self._early.append(("image", pair))
        else:
            self._settle(self._sync.add_image(pair[0], _steady_ns(pair[1]), pair[1]))

    def depth(self, pair: _Pair) -> None:
        """Take a depth image."""
        if self._sync is None:
            self._early.append(("depth", pair))
            while len(self._early) > 2 * self._settings.queue_size:
                self._drop_early()
        elif self._sync.config.with_depth:
            self._settle(self._sync.add_depth(pair[0], _steady_ns(pair[1]), pair[1]))

    def decide(self) -> None:
        """Wait no longer for what may be missing, if there is an image."""
        if self._sync is None and self._first_s is not None:
            self._begin()

    def poll(self, now_s: float) -> None:
        """Write what has become ready; poses have arrived, or time has passed."""
        if self._sync is None:
            if self._first_s is None or not self._ready(now_s - self._first_s):
                return
            self._begin()
        assert self._sync is not None
        self._settle(self._sync.poll(round(now_s * 1e9)))
        self._count(self._ingest.settled())

    def jumped(self) -> None:
        """The clock went back: what waits is rejected, and what comes begins anew."""
        for _ in range(len(self._early)):
            self._drop_early("time_jump")
        if self._sync is not None:
            self._settle(list(self._sync.clear()))

    def clock_set(self) -> None:
        """A clock was set: what waits is settled before poses of the new time come."""
        self.decide()
        if self._sync is not None:
            self._settle(self._sync.clock_set())

    # The end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Nothing more will come: settle what waits."""
        self.decide()
        if self._sync is not None and self._source is not None:
            self._source.wait_no_longer()
            self._settle(self._sync.finish())
        while outcomes := self._ingest.settled(wait=True):
            self._count(outcomes)

    def abandon(self, reason: str) -> None:
        """After a failure: count what waits as rejected."""
        for _ in range(self.tally.waiting):
            self.tally.reject(reason)
        self._early.clear()

    def close(self) -> None:
        """Put the dataset in order, with its datum and a report. UserError when the disk fails; the frames are safe."""
        writer = self._ingest.writer
        if writer is None:
            return
        try:
            self._note(place_on_earth(writer.meta, self._poses, resumed=self._ingest.stored is not None))
        except UserError as error:
            self._note(str(error))
        self._note(*self._poses.notes)
        images, frames, rejects, _ = self.tally.snapshot()
        report: dict[str, Any] = {
            "images": images,
            "frames_written": frames,
            "rejects": rejects,
            "examples": self.tally.details,
            "notes": self.notes,
            "settings": definitions.to_yaml_dict(self._settings),
        }
        try:
            writer.write_file(REPORT, yaml.safe_dump(report, sort_keys=False, allow_unicode=True).encode())
        finally:
            self._ingest.close()

    # Between ---------------------------------------------------------------------------------------------------

    @property
    def stored_datum(self) -> Datum | None:
        """Of the dataset that is gone on with."""
        return self._ingest.stored.datum if self._ingest.stored else None

    @property
    def patience_s(self) -> float:
        """How long images wait for what may be missing for good: depth, a calibration, where the camera sits."""
        return self._settings.max_wait_s / 2

    def _ready(self, waited_s: float) -> bool:
        """Whether it is known what the dataset holds. Who has not shown up in time is done without."""
        if waited_s >= self.patience_s:
            return True
        wants_info = self._settings.camera_info and not self._poses.calibration(self.name)
        wants_depth = self._settings.depth != "none" and not self._with_depth()
        return not wants_info and not wants_depth

    def _with_depth(self) -> bool:
        if self._ingest.stored is not None:
            return self._ingest.stored.depth is not None
        if self._settings.depth == "none":
            return False
        return self._settings.depth != "auto" or self._depth_published()

    def _begin(self) -> None:
        """From here on images are matched; whether with depth stays as it is."""
        config, second = self._settings, 1e9
        with_depth = self._with_depth()
        if config.depth == "auto" and not with_depth:
            self._note("nobody published depth at the start: a dataset of colour only")
        assert self._first_s is not None
        self._source = self._poses.camera(config.camera_frame or self._frame_id, self._first_s + self.patience_s)
        self._sync = Synchronizer(
            self._source,
            SyncConfig(
                with_depth,
                round(config.depth_tolerance_s * second),
                round(config.image_time_offset_s * second),
                round(config.max_wait_s * second),
                max_waiting=config.queue_size,
            ),
        )
        early, self._early = self._early, deque()
        for kind, pair in early:
            (self.image if kind == "image" else self.depth)(pair)

    def _drop_early(self, reason: str = "queue_full") -> None:
        kind, _ = self._early.popleft()
        if kind == "image":
            self.tally.reject(reason)

    def _settle(self, settled: list[Settled]) -> None:
        for item in settled:
            if isinstance(item, Reject):
                self.tally.reject(item.reason, item.detail)
            else:
                self._offer(item)

    def _offer(self, frame: Frame) -> None:
        try:
            sample = decode.image_sample(_message(frame.image), frame.stamp_ns)
        except (UserError, *UNREADABLE) as error:
            self.tally.reject("image_unreadable", str(error))
            return
        if self._ingest.writer is None:
            self._begin_dataset(sample, frame.T_map_cam)
        depth = (lambda: _depth_sample(frame.depth, frame.stamp_ns)) if frame.depth is not None else None
        self._under_way.append(frame.image)
        self._count(self._ingest.offer(frame.stamp_ns, frame.T_map_cam, sample, depth))

    def _count(self, outcomes: list[Outcome]) -> None:
        """Count what became of the frames that were given to the ingest, the oldest first."""
        for outcome in outcomes:
            arrival = self._under_way.popleft()
            if outcome.result == WRITTEN:
                self.tally.frame(arrival.arrived_s)
            else:
                self.tally.reject(outcome.result, outcome.detail)

    def _begin_dataset(self, sample: ImageSample, T_map_cam: Float64) -> None:
        """With its first frame. UserError when the folder cannot take it."""
        config = self._settings
        assert self._sync is not None
        assert self._source is not None
        found = self._source.decided
        assert found is not None
        if found.datum is not None and self._ingest.stored is not None:
            gps.require_near(T_map_cam[None, :3, 3], self.folder, found.datum, self._ingest.stored.datum is None)
        try:
            camera, note = camera_of_images(
                sample.width, sample.height, self._poses.calibration(self.name), config.fov_deg
            )
        except UserError as error:
            raise UserError(f"camera_info {error}; remap the right one, or set camera_info to false") from error
        self._note(note)
        meta = DatasetMeta(
            camera=camera,
            map_frame=found.map_frame,
            camera_frame=found.camera_frame,
            depth=DepthMeta(kind=config.depth_kind) if self._sync.config.with_depth else None,
            datum=found.datum,
            poses=dataclasses.replace(found.facts, image_time_offset_s=config.image_time_offset_s),
        )
        self._ingest.begin(meta, time.strftime("recorded %Y-%m-%d %H:%M:%S"), FrameFilter(config.filters))

    def _note(self, *texts: str) -> None:
        self.notes += [text for text in texts if text and text not in self.notes]


def _steady_ns(arrival: RawMessage) -> int:
    return round(arrival.arrived_s * 1e9)


def _message(arrival: RawMessage) -> Any:
    return typestore("2").deserialize_cdr(arrival.data, arrival.source.type_name)


def _frame_id(arrival: RawMessage) -> str:
    try:
        return decode.frame_name(_message(arrival).header.frame_id)
    except UNREADABLE:
        return ""


def _depth_sample(arrival: Any, stamp_ns: int) -> DepthSample:
    try:
        return decode.depth_sample(_message(arrival), stamp_ns)
    except UNREADABLE as error:
        raise UserError(f"the depth message does not fit its type ({error})") from error

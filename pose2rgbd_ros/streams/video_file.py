"""A video file: its frames, upright and with their times, and what else lies inside; of a damaged one what is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".ts", ".mts", ".lrv")
SECOND = 1_000_000_000  # ns
_LARGEST_METADATA = 200_000_000
# Damaged packets in a row after which the rest of a file is given up.
_ENDS_WITHIN_S, _ENDS_WITHIN = 0.5, 0.05  # of the length that the file states
_MOST_DAMAGED = 100
_HEALED_NS = 5 * SECOND  # after damage; streams that refresh their pictures bit by bit have no key frames
_MOST_BOXES = 1000
_LONGEST_NS = 86_400 * SECOND
Payload = tuple[int, int, bytes]


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A decoded frame: `media_ns` since the first one of the video; `picture` is PyAV's, upright after `turns` quarter
    turns counter-clockwise. `whole`: False after damage up to the next key frame, for decoders then guess."""

    media_ns: int
    picture: Any
    turns: int
    whole: bool = True

    def grey(self, width: int) -> UInt8:
        """Grey pixels, reduced to `width`."""
        height = max(16, round(self.picture.height * width / self.picture.width))
        small = self.picture.reformat(width=width, height=height, format="gray", interpolation="AREA")
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), self.turns))

    def rgb(self, height: int = 0) -> UInt8:
        """RGB (H, W, 3), made `height` high where that is not 0."""
        width, high = self.picture.width, self.picture.height
        upright = high if self.turns % 2 == 0 else width
        if height and height != upright:
            width, high = (max(1, round(side * height / upright)) for side in (width, high))
        found = self.picture.reformat(width=width, height=high, format="rgb24", interpolation="AREA")
        return np.ascontiguousarray(np.rot90(found.to_ndarray(), self.turns))


class VideoFile:
    """A video. UserError when it cannot be opened or has no pictures.

    `creation_ns` is when it says it was begun (UTC, a second fine; many cameras write local time), None when it does
    not. `damaged` counts packets that could not be decoded, so far, and `reached_s` is how far pictures were found.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.frames_without_time = 0
        self.reached_s = 0.0
        with self._open() as container:
            stream = self._pictures(container)
            self._zero_s = self._begin_s(stream)
            self.duration_s = self._duration_s(container, stream)
            self._pictures_s = float(stream.duration * stream.time_base) if stream.duration else 0.0
            self.creation_ns = _creation_ns({**container.metadata, **stream.metadata})

    def frames(self, start_s: float = 0.0, end_s: float = 0.0, keyframes: bool = False) -> Iterator[VideoFrame]:
        """The frames in order, between `start_s` and `end_s` (0: the end). A damaged file gives what can be decoded."""
        last_ns, key_ns, damaged_ns = -1, -1, [-1 - _HEALED_NS]
        with self._open() as container:
            stream = self._pictures(container)
            stream.thread_type = "AUTO"
            if keyframes:
                stream.codec_context.skip_frame = "NONKEY"
            if start_s > 0:
                with contextlib.suppress(av.error.FFmpegError):
                    container.seek(round((start_s + self._zero_s) / stream.time_base), stream=stream)
            for picture in self._decoded(container, stream, damaged_ns):
                if picture.pts is None or picture.time_base is None:
                    self.frames_without_time += 1
                    continue
                media_ns = self._media_ns(picture)
                if media_ns > _LONGEST_NS:  # of a damaged packet
                    self.frames_without_time += 1
                    continue
                if picture.is_corrupt:
                    damaged_ns.append(media_ns)
                elif picture.key_frame:
                    key_ns = media_ns
                if media_ns <= last_ns or media_ns < start_s * SECOND:
                    continue
                if end_s and media_ns > end_s * SECOND:
                    return
                last_ns = media_ns
                self.reached_s = media_ns / SECOND
                latest_ns = max((at for at in damaged_ns if at <= media_ns), default=-1)
                whole = key_ns > latest_ns or media_ns > latest_ns + _HEALED_NS
                yield VideoFrame(media_ns, picture, _quarter_turns(picture), whole)

    @property
    def missing_s(self) -> float:
        """Seconds of pictures that the file says to hold behind the last one found; 0 within what index and end may
        differ.
        """
        missing_s = self._pictures_s - self.reached_s
        return missing_s if missing_s > max(_ENDS_WITHIN_S, _ENDS_WITHIN * self._pictures_s) else 0.0

    def stamps_ns(self) -> list[int]:
        """When the frames are shown, in nanoseconds since the first and increasing, by the file's index: quick, and
        without knowing which of them can be decoded. Where the packets bear no times all frames are decoded."""
        found, bare = set[int](), False
        with self._open() as container, contextlib.suppress(av.error.FFmpegError):
            for packet in container.demux(self._pictures(container)):
                if packet.size and not packet.is_discard:
                    bare |= packet.pts is None
                    if packet.pts is not None and packet.time_base is not None:
                        found.add(self._media_ns(packet))
        if bare:
            return [frame.media_ns for frame in self.frames()]
        return sorted(stamp for stamp in found if 0 <= stamp <= _LONGEST_NS)

    def metadata_payloads(self) -> list[Payload]:
        """GoPro's metadata packets: begin and duration in nanoseconds of the video's time, and the bytes."""
        return [packet for packet in self._packets("data") if packet[2][:4] == b"DEVC"]

    def subtitles(self) -> list[tuple[int, str]]:
        """The subtitles inside the file: when each begins, in nanoseconds of the video's time, and its text."""
        found = []
        for begin_ns, _, data in self._packets("subtitle"):
            # MP4's timed text has its length before it, and empty ones between; others are plain.
            size = int.from_bytes(data[:2], "big")
            text = data[2 : 2 + size] if size <= len(data) - 2 else data
            if text:
                found.append((begin_ns, text.decode("utf-8", "replace")))
        return found

    def _packets(self, kind: str) -> list[Payload]:
        """The packets of all tracks of a kind, up to a damaged one."""
        found: list[Payload] = []
        size = 0
        with self._open() as container, contextlib.suppress(av.error.FFmpegError):
            tracks = [stream for stream in container.streams if stream.type == kind]
            for packet in container.demux(tracks) if tracks else ():
                if not packet.size or packet.pts is None or packet.time_base is None:
                    continue
                size += packet.size
                if size > _LARGEST_METADATA:
                    break
                begin_ns = self._media_ns(packet)
                duration_ns = _nanoseconds(packet.duration or 0, packet.time_base) or SECOND
                found.append((begin_ns, duration_ns, bytes(packet)))
        return found

    def _media_ns(self, timed: Any) -> int:
        """Of a packet or picture."""
        return _nanoseconds(timed.pts, timed.time_base) - round(self._zero_s * SECOND)

    def _open(self) -> Any:
        try:
            return av.open(str(self.path), metadata_errors="replace")
        except (av.error.FFmpegError, ValueError, OSError) as error:
            if self.path.is_file() and not self.path.stat().st_size:
                raise UserError(f"{self.path} is empty; expected a video") from error
            hint = "; it seems to be cut off: its index (moov), which is written last, is missing"
            raise UserError(
                f"{self.path} cannot be opened as a video ({error}){hint if self._lacks_index() else ''}"
            ) from error

    def _lacks_index(self) -> bool:
        """Whether an MP4 or MOV, which is a row of boxes, ends before the one named moov."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            size, name = file.seek(0, 2), b""
            begin, seen = 0, list[bytes]()
            while begin < size and len(seen) < _MOST_BOXES:
                file.seek(begin)
                head = file.read(16)
                length, name = int.from_bytes(head[:4], "big"), head[4:8]
                length = int.from_bytes(head[8:16], "big") if length == 1 else length or size
                seen.append(name)
                begin += max(length, 8)
            return seen[:1] == [b"ftyp"] and b"moov" not in seen
        return False

    def _pictures(self, container: Any) -> Any:
        if not container.streams.video:
            raise UserError(f"{self.path} holds no pictures")
        return container.streams.video[0]

    def _decoded(self, container: Any, stream: Any, damaged_ns: list[int]) -> Iterator[Any]:
        in_a_row = 0
        packets = container.demux(stream)
        while in_a_row < _MOST_DAMAGED:
            packet = None
            try:
                packet = next(packets)
                pictures = packet.decode()
            except StopIteration:
                return
            except (av.error.FFmpegError, ValueError, MemoryError):
                self.damaged += 1
                in_a_row += 1
                if packet is not None and packet.pts is not None and packet.time_base is not None:
                    damaged_ns.append(self._media_ns(packet))
                continue
            in_a_row = 0
            yield from pictures

    @staticmethod
    def _begin_s(stream: Any) -> float:
        return float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0

    @staticmethod
    def _duration_s(container: Any, stream: Any) -> float:
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return container.duration / av.time_base if container.duration else 0.0


def _nanoseconds(pts: int, time_base: Any) -> int:
    return int(pts * time_base.numerator * SECOND // time_base.denominator)


def _quarter_turns(picture: Any) -> int:
    """How often to turn a frame counter-clockwise by 90 degrees, as the file asks players to."""
    return round(float(getattr(picture, "rotation", 0) or 0) / 90) % 4


def _creation_ns(said: dict[str, str]) -> int | None:
    text = said.get("creation_time") or said.get("com.apple.quicktime.creationdate") or ""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    stamp_ns = int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000
    return stamp_ns if moment.year > 1971 else None  # cameras without a clock begin at an epoch

"""PyTorch itself: the reference, for any model, and the way to run one on a GPU."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.training.families import RenderTensors

GPU_BATCH = 16  # frames at once; bounds the memory of a large request

_log = logging.getLogger(__name__)


class TorchBackend:
    """The network itself. On the CPU frame by frame in float32; on CUDA in batches, in half precision if asked.

    A GPU whose memory runs out, as another program took it, is left for the CPU, with a warning: a flight goes on.
    """

    name = "torch"

    def __init__(
        self,
        model: nn.Module,
        normalization: Normalization,
        device: str = "cpu",
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """`threads` sets PyTorch's thread count for the whole process; None leaves it as it is."""
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._half = None if precision == "float32" else getattr(torch, precision)
        network: Any = model.eval().to(self._device)
        if self._device.type == "cuda":
            network = network.to(memory_format=torch.channels_last)
        self._model = network
        self._normalization = normalization
        self._pinned: dict[str, Tensor] = {}

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        try:
            self._render(T_map_cam, camera, out)
            return
        except torch.OutOfMemoryError:
            if self._device.type == "cpu":
                raise
        self._leave_the_gpu()  # here, where the error no longer holds tensors
        self._render(T_map_cam, camera, out)

    def _leave_the_gpu(self) -> None:
        _log.warning(
            "%s has no memory left; rendering on the CPU from now on, which is slower (start again for the GPU)",
            self._device,
        )
        self._device, self._half, self._pinned = torch.device("cpu"), None, {}
        self._model = self._model.to(self._device)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        images = out.present()
        step = GPU_BATCH if self._device.type == "cuda" else 1
        for start in range(0, len(T_map_cam), step):
            T = torch.from_numpy(T_map_cam[start : start + step]).to(self._device)
            finished = self._infer(T, camera)
            for name, batch in self._to_host(finished).items():
                images[name][start : start + step] = batch

    @torch.inference_mode()
    def _infer(self, T_map_cam: Tensor, camera: Camera) -> dict[str, Tensor]:
        """Finished images on the device."""
        with torch.autocast(self._device.type, dtype=self._half, enabled=self._half is not None):
            shown: RenderTensors = self._model.pictures(T_map_cam, camera, self._normalization)
        finished = {}
        if shown.rgb is not None:
            levels = (shown.rgb.float() * 255).round_().to(torch.uint8)
            finished["rgb"] = levels.permute(0, 2, 3, 1).contiguous()
        if shown.depth is not None:
            finished["depth"] = shown.depth.float()
        if shown.confidence is not None:
            factor = camera.width // shown.confidence.shape[-1]
            total = shown.confidence.float()
            finished["confidence"] = total.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        return finished

    def _to_host(self, finished: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
        if self._device.type != "cuda":
            return {name: tensor.numpy() for name, tensor in finished.items()}
        # Page-locked memory is copied to at full speed and all copies run together; one wait at the end.
        host = {name: self._pinned_like(name, tensor) for name, tensor in finished.items()}
        for name, tensor in finished.items():
            host[name].copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return {name: tensor.numpy() for name, tensor in host.items()}

    def _pinned_like(self, name: str, tensor: Tensor) -> Tensor:
        """A page-locked buffer of the tensor's shape, kept for the next call."""
        known = self._pinned.get(name)
        if known is None or len(known) < len(tensor):
            known = self._pinned[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return known[: len(tensor)]

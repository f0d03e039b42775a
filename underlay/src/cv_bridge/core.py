"""The bridge class; images are numpy arrays of shape (H, W) or (H, W, channels)."""

from __future__ import annotations

import sys

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from cv_bridge import _encodings


class CvBridgeError(TypeError):
    """The message and the wanted encoding, or the image and the claimed one, do not go together."""


class CvBridge:
    """Converts between sensor_msgs images and OpenCV (numpy) images."""

    def __init__(self) -> None:
        self.cvtype_to_name = {
            getattr(cv2, f"CV_{depth}C{channels}"): f"{depth}C{channels}"
            for depth in _encodings.DTYPES
            for channels in (1, 2, 3, 4)
        }
        self.cvdepth_to_numpy_depth = {getattr(cv2, f"CV_{depth}"): dtype for depth, dtype in _encodings.DTYPES.items()}
        self.numpy_type_to_cvtype = {dtype: depth for depth, dtype in _encodings.DTYPES.items()}
        self.numpy_type_to_cvtype.update(_encodings.DTYPES)

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """(dtype('uint16'), 1) -> `16UC1`."""
        return f"{self.numpy_type_to_cvtype[dtype.name]}C{n_channels}"

    def cvtype2_to_dtype_with_channels(self, cvtype: int) -> tuple[str, int]:
        """OpenCV's number of a type -> ("uint16", 1)."""
        return self.cvdepth_to_numpy_depth[cvtype & 7], (cvtype >> 3 & 511) + 1

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """OpenCV's number of the type that holds an encoding; CvBridgeError for an unknown encoding."""
        try:
            depth, channels = _encodings.type_name(encoding).split("C")
        except RuntimeError as error:
            raise CvBridgeError(error) from error
        return int(getattr(cv2, f"CV_{depth}")) + (int(channels) - 1 << 3)

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """`rgb8` -> ("uint8", 3)."""
        return self.cvtype2_to_dtype_with_channels(self.encoding_to_cvtype2(encoding))

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> np.ndarray:
        """The image, in the message's own encoding or converted; native byte order, row padding removed.

        A passed-through image may share memory with the message. CvBridgeError when it cannot be converted,
        TypeError when the message holds fewer bytes than its height and step say.
        """
        name, channels = self.encoding_to_dtype_with_channels(img_msg.encoding)
        dtype = np.dtype(name).newbyteorder(">" if img_msg.is_bigendian else "<")
        shape = (img_msg.height, img_msg.step // dtype.itemsize // channels, channels)
        data = np.asarray(img_msg.data, dtype=dtype) if isinstance(img_msg.data, list) else img_msg.data
        image = np.ndarray(shape, dtype, buffer=data)[:, : img_msg.width]
        if channels == 1:
            image = image[:, :, 0]
        image = np.ascontiguousarray(image)
        if bool(img_msg.is_bigendian) == (sys.byteorder == "little"):
            image = image.astype(dtype.newbyteorder("="))
        return image if desired_encoding == "passthrough" else _convert(image, img_msg.encoding, desired_encoding)

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> np.ndarray | None:
        """The decoded image as OpenCV decodes it (BGR, BGRA or gray; depth kept), or converted from BGR.

        None when the data is no image OpenCV knows. CvBridgeError when it cannot be converted.
        """
        data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        return image if desired_encoding == "passthrough" else _convert(image, "bgr8", desired_encoding)

    def cv2_to_imgmsg(self, cvim: np.ndarray, encoding: str = "passthrough", header: Header | None = None) -> Image:
        """A message with the image as it is, under its OpenCV type (`8UC3`) or the given encoding.

        TypeError for anything but a numpy array, CvBridgeError when its type does not fit the encoding.
        """
        _check_array(cvim)
        name = self.dtype_with_channels_to_cvtype2(cvim.dtype, 1 if cvim.ndim < 3 else cvim.shape[2])
        if encoding != "passthrough" and self.cvtype_to_name[self.encoding_to_cvtype2(encoding)] != name:
            raise CvBridgeError(f"encoding specified as {encoding}, but image has incompatible type {name}")
        message = Image(
            height=cvim.shape[0],
            width=cvim.shape[1],
            encoding=name if encoding == "passthrough" else encoding,
            is_bigendian=cvim.dtype.byteorder == ">",
        )
        if header is not None:
            message.header = header
        # the array of the message is filled from the image's own memory: one copy, no element checks
        message.data.frombytes(np.ascontiguousarray(cvim).ravel().view(np.uint8))
        message.step = len(message.data) // message.height
        return message

    def cv2_to_compressed_imgmsg(self, cvim: np.ndarray, dst_format: str = "jpg") -> CompressedImage:
        """A message with the image encoded by OpenCV; the format is a file name extension, such as `png`."""
        _check_array(cvim)
        message = CompressedImage(format=dst_format)
        message.data.frombytes(cv2.imencode(f".{dst_format}", cvim)[1])
        return message


def _check_array(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray | np.generic):
        raise TypeError("Your input type is not a numpy array")


def _convert(image: np.ndarray | None, source: str, target: str) -> np.ndarray:
    if image is None:
        raise CvBridgeError(f"no image to convert from {source} to {target}")
    try:
        return _encodings.convert(image, source, target)
    except (RuntimeError, cv2.error) as error:
        raise CvBridgeError(error) from error

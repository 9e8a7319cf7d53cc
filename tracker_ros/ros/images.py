# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to pixels and back.

Nothing here needs a node, and only the functions that make messages need the message packages:
what is read may be anything with the fields of sensor_msgs/Image or CompressedImage. Whatever
those fields hold, the outcome is a correct array or an `ImageError`.
"""

from __future__ import annotations

import array
import functools
import importlib
import importlib.util
import operator
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2
import numpy as np

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

MOST_PIXELS = 64_000_000
"""Images of more pixels are refused: no camera makes them, but a broken or hostile message can."""


class ImageError(ValueError):
    """The message is not an image this project can use; the text says what is wrong with it."""


class ImageLike(Protocol):
    """The fields of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageLike(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


def view(message: ImageLike) -> np.ndarray:
    """The pixels of a message in the layout of its own encoding, without a copy.

    Rows may be padded (`step`), so the array need not be contiguous. It is read-only, and keeps
    the message's bytes alive. Only big-endian 16-bit pixels are copied, to swap their bytes.

    Returns:
        (H, W) or (H, W, channels), uint8 or native uint16. Packed 4:2:2 is (H, W, 2); nv12 and
        nv21 are (H * 3/2, W): the luma rows, then the rows of interleaved chroma.

    Raises:
        ImageError: unknown encoding, impossible size or step, too few bytes.
    """
    layout = _layout_of(message)
    height, width = _size_of(message)
    if height % layout.height_multiple or width % layout.width_multiple:
        raise ImageError(
            f'{message.encoding} cannot be {width}x{height}: its width must be a multiple of '
            f'{layout.width_multiple}, its height of {layout.height_multiple}'
        )
    _refuse_small_mosaic(width, height, message.encoding, layout)
    rows = height * 3 // 2 if layout.planar else height
    pixel_bytes = layout.item_bytes * layout.channels
    step = _integer(message, 'step')
    if step < width * pixel_bytes:
        raise ImageError(
            f'step is {step}, but a row of {width} {message.encoding} pixels has '
            f'{width * pixel_bytes} bytes'
        )
    data = _bytes_of(message)
    # Some drivers leave out the padding of the last row.
    needed = step * (rows - 1) + width * pixel_bytes
    if data.size < needed:
        raise ImageError(
            f'data has {data.size} bytes, but {width}x{height} {message.encoding} with step '
            f'{step} needs {needed}'
        )
    shape: tuple[int, ...] = (rows, width)
    strides: tuple[int, ...] = (step, pixel_bytes)
    if layout.channels > 1:
        shape, strides = (*shape, layout.channels), (*strides, layout.item_bytes)
    order = '>' if message.is_bigendian else '<'
    pixels = np.ndarray(shape, f'{order}u{layout.item_bytes}', data, 0, strides)
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder('='))
    pixels.flags.writeable = False
    return pixels


def to_bgr(message: ImageLike) -> np.ndarray:
    """The picture of a message as (H, W, 3) uint8 BGR.

    bgr8 and 8UC3 are returned as the read-only view of `view`, rows perhaps padded. All others
    are converted by one call of OpenCV, which takes padded rows as they are; 16-bit pixels are
    first scaled to 8 bits (65535 becomes 255, rounded, as cv_bridge does).

    Encodings outside the project's own list go through cv_bridge where that works.

    Raises:
        ImageError: as `view`; a depth image; an encoding nothing here can convert.
    """
    if message.encoding not in _LAYOUTS:
        return _by_cv_bridge(message)
    layout = _LAYOUTS[message.encoding]
    pixels = view(message)
    if layout.item_bytes == 2:
        pixels = _scaled_to_8_bits(pixels)
    return pixels if layout.to_bgr is None else cv2.cvtColor(pixels, layout.to_bgr)


def decode_compressed(message: CompressedImageLike) -> np.ndarray:
    """Decodes a jpeg or png CompressedImage to (H, W, 3) uint8 BGR.

    The bytes decide which of the two it is. `format` is read as compressed_image_transport writes
    it ('jpeg', 'rgb8; jpeg compressed bgr8', ...): it tells when the stream holds R where the
    standard has B, when it is a colour mosaic, and when it is a depth image. The orientation
    flag of photographs is ignored, since CameraInfo belongs to the stored picture.

    Raises:
        ImageError: the bytes are neither, damaged, cut short, larger than `MOST_PIXELS`, or depth.
    """
    original, compressed_as = _formats_of(message)
    data = _bytes_of(message).tobytes()
    width, height, channels = _declared_size(data)
    mosaic = _LAYOUTS.get(original) if original.startswith('bayer_') else None
    as_mosaic = mosaic is not None and channels == 1 and not compressed_as
    wanted = cv2.IMREAD_GRAYSCALE if as_mosaic else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), wanted | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ImageError(f'the compressed image cannot be decoded: {error}') from error
    if pixels is None:
        raise ImageError(
            f'the compressed image ({len(data)} bytes) is damaged: it cannot be decoded'
        )
    if as_mosaic and mosaic is not None and mosaic.to_bgr is not None:
        _refuse_small_mosaic(width, height, original, mosaic)
        return cv2.cvtColor(pixels, mosaic.to_bgr)
    if compressed_as.startswith('rgb'):
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return pixels


def compressed_size(message: CompressedImageLike) -> tuple[int, int]:
    """(width, height) of a jpeg or png CompressedImage, read from its header, not decoded.

    Raises:
        ImageError: as `decode_compressed`, as far as the header shows it.
    """
    width, height, _ = _declared_size(_bytes_of(message).tobytes())
    return width, height


def to_message(pixels: np.ndarray, header: Header, encoding: str = 'bgr8') -> Image:
    """Makes a sensor_msgs/Image of pixels which already are in the encoding.

    Args:
        pixels: (H, W, 3) uint8 for bgr8 and rgb8, (H, W) uint8 for mono8; copied once.
        header: used as it is.
        encoding: bgr8, rgb8 or mono8.

    Raises:
        ImageError: the array does not fit the encoding.
    """
    from sensor_msgs.msg import Image

    channels = {'bgr8': 3, 'rgb8': 3, 'mono8': 1}.get(encoding)
    if channels is None:
        raise ImageError(f"images are written as bgr8, rgb8 or mono8, not as '{encoding}'")
    found = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or found != channels:
        raise ImageError(
            f'an array of shape {pixels.shape} and type {pixels.dtype} is not {encoding}'
        )
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding)
    message.step = width * channels
    message.data = _message_bytes(pixels)
    return message


def to_compressed_message(bgr: np.ndarray, header: Header, quality: int = 80) -> CompressedImage:
    """Makes a JPEG sensor_msgs/CompressedImage of (H, W, 3) uint8 BGR pixels.

    Args:
        bgr: the picture.
        header: used as it is.
        quality: 1 to 100, of JPEG.

    Raises:
        ImageError: OpenCV cannot encode the array.
    """
    from sensor_msgs.msg import CompressedImage

    try:
        encoded, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise ImageError(f'an array of shape {bgr.shape} has no JPEG: {error}') from error
    if not encoded:
        raise ImageError(f'an array of shape {bgr.shape} cannot be encoded as JPEG')
    # The words image_transport's own subscribers expect.
    message = CompressedImage(header=header, format='bgr8; jpeg compressed bgr8')
    message.data = _message_bytes(data)
    return message


class CvBridgeFinding(NamedTuple):
    """Whether cv_bridge can be used here."""

    bridge: Any
    """A `cv_bridge.CvBridge`, or None."""
    finding: str
    """One sentence for people."""


@functools.cache
def find_cv_bridge() -> CvBridgeFinding:
    """Looks for a cv_bridge that works, once; later calls return the same finding.

    Where it is installed it is tried in a process of its own first: built for another numpy, it
    does not always fail with an exception, it may crash.
    """
    without = 'only the built-in encodings are understood'
    if importlib.util.find_spec('cv_bridge') is None:
        return CvBridgeFinding(None, f'cv_bridge is not installed; {without}')
    trial = f'import sys; sys.path[:] = {sys.path!r}\n{_CV_BRIDGE_TRIAL}'
    try:
        ended = subprocess.run(
            [sys.executable, '-c', trial], capture_output=True, text=True, timeout=60, check=False
        )
        if ended.returncode != 0:
            said = ended.stderr.strip().splitlines() or [f'exit code {ended.returncode}']
            return CvBridgeFinding(None, f'cv_bridge does not work here ({said[-1]}); {without}')
        bridge = importlib.import_module('cv_bridge').CvBridge()
    except Exception as error:  # whatever an installed package does must not stop the node
        return CvBridgeFinding(None, f'cv_bridge does not work here ({error}); {without}')
    return CvBridgeFinding(bridge, 'cv_bridge is used for encodings beyond the built-in ones')


_CV_BRIDGE_TRIAL = """
from types import SimpleNamespace
from cv_bridge import CvBridge
image = SimpleNamespace(height=2, width=2, encoding='rgb8', is_bigendian=0, step=6, data=bytes(12))
assert CvBridge().imgmsg_to_cv2(image, 'bgr8').shape == (2, 2, 3)
"""


class _Layout(NamedTuple):
    item_bytes: int
    channels: int
    to_bgr: int | None
    width_multiple: int = 1
    height_multiple: int = 1
    planar: bool = False
    smallest_side: int = 1


_MONO = _Layout(1, 1, cv2.COLOR_GRAY2BGR)
_BGR = _Layout(1, 3, None)
_BGRA = _Layout(1, 4, cv2.COLOR_BGRA2BGR)
_UYVY = _Layout(1, 2, cv2.COLOR_YUV2BGR_UYVY, width_multiple=2)
_YUYV = _Layout(1, 2, cv2.COLOR_YUV2BGR_YUYV, width_multiple=2)

_LAYOUTS = {
    'bgr8': _BGR,
    'rgb8': _Layout(1, 3, cv2.COLOR_RGB2BGR),
    'bgra8': _BGRA,
    'rgba8': _Layout(1, 4, cv2.COLOR_RGBA2BGR),
    'mono8': _MONO,
    '8UC1': _MONO,
    '8UC3': _BGR,
    '8UC4': _BGRA,
    'mono16': _Layout(2, 1, cv2.COLOR_GRAY2BGR),
    'bgr16': _Layout(2, 3, None),
    'rgb16': _Layout(2, 3, cv2.COLOR_RGB2BGR),
    'bgra16': _Layout(2, 4, cv2.COLOR_BGRA2BGR),
    'rgba16': _Layout(2, 4, cv2.COLOR_RGBA2BGR),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': _Layout(1, 1, cv2.COLOR_YUV2BGR_NV12, 2, 2, planar=True),
    'nv21': _Layout(1, 1, cv2.COLOR_YUV2BGR_NV21, 2, 2, planar=True),
}
# ROS names a mosaic by its first four pixels, these constants of OpenCV by the second and third
# pixel of the second row. Of less than three rows or columns OpenCV makes a black picture.
_LAYOUTS |= {
    f'bayer_{pattern}{8 * item_bytes}': _Layout(item_bytes, 1, code, smallest_side=3)
    for item_bytes in (1, 2)
    for pattern, code in (
        ('rggb', cv2.COLOR_BayerBG2BGR),
        ('bggr', cv2.COLOR_BayerRG2BGR),
        ('gbrg', cv2.COLOR_BayerGR2BGR),
        ('grbg', cv2.COLOR_BayerGB2BGR),
    )
}

_DEPTH_ENCODINGS = frozenset({'16UC1', '32FC1', '64FC1'})
_DEPTH_ADVICE = (
    'holds distances, not appearance, so nothing can be recognised in it: subscribe to the '
    "camera's colour or infrared image instead (often .../color/image_raw or .../image_rect)"
)
_MOST_JPEG_SEGMENTS = 1000
_MOST_JPEG_SCANS = 32
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _layout_of(message: ImageLike) -> _Layout:
    encoding = message.encoding
    if not isinstance(encoding, str):
        raise ImageError(f'encoding is {type(encoding).__name__}, it must be text')
    if encoding in _DEPTH_ENCODINGS:
        raise ImageError(f'{encoding} {_DEPTH_ADVICE}')
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise ImageError(
            f'encoding {_quoted(encoding)} is not supported; publish one of: {", ".join(_LAYOUTS)}'
        )
    return layout


def _by_cv_bridge(message: ImageLike) -> np.ndarray:
    if not isinstance(message.encoding, str) or message.encoding in _DEPTH_ENCODINGS:
        _layout_of(message)
    height, width = _size_of(message)
    bridge, finding = find_cv_bridge()
    if bridge is None:
        raise ImageError(
            f'encoding {_quoted(message.encoding)} is not supported ({finding}); publish one of: '
            f'{", ".join(_LAYOUTS)}'
        )
    try:
        pixels = bridge.imgmsg_to_cv2(message, 'bgr8')
    except Exception as error:  # cv_bridge documents none of what it lets through
        raise ImageError(
            f'encoding {_quoted(message.encoding)} is not supported: cv_bridge says: {error}'
        ) from error
    if not isinstance(pixels, np.ndarray) or pixels.shape != (height, width, 3):
        raise ImageError(
            f'cv_bridge made no {width}x{height} picture of {_quoted(message.encoding)}'
        )
    return pixels


def _size_of(message: ImageLike) -> tuple[int, int]:
    height, width = _integer(message, 'height'), _integer(message, 'width')
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise ImageError(
            f'the image says it is {width}x{height}: it must have between 1 and {MOST_PIXELS} '
            'pixels'
        )
    return height, width


def _integer(message: ImageLike, field: str) -> int:
    value = getattr(message, field)
    try:
        return operator.index(value)
    except TypeError as error:
        raise ImageError(f'{field} is {value!r:.40}, it must be a whole number') from error


def _bytes_of(message: ImageLike | CompressedImageLike) -> np.ndarray:
    """The data field as (n,) uint8, without a copy."""
    data = message.data
    try:
        if len(data) == 0:
            raise ImageError('data is empty')
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f'data is {type(data).__name__}, it must be bytes: {error}') from error


def _scaled_to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if any(stride % pixels.itemsize for stride in pixels.strides):
        pixels = np.ascontiguousarray(pixels)  # OpenCV takes no rows of an odd length
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535)


def _refuse_small_mosaic(width: int, height: int, encoding: str, layout: _Layout) -> None:
    smallest = layout.smallest_side
    if min(width, height) < smallest:
        raise ImageError(
            f'{encoding} cannot be {width}x{height}: colours are interpolated from at least '
            f'{smallest}x{smallest} pixels'
        )


def _formats_of(message: CompressedImageLike) -> tuple[str, str]:
    """The encoding before compression and the one handed to the compressor; '' where untold."""
    text = message.format
    if not isinstance(text, str):
        raise ImageError(f'format is {type(text).__name__}, it must be text')
    original, _, rest = text.partition(';')
    original = original.strip()
    if 'compresseddepth' in text.lower() or original in _DEPTH_ENCODINGS:
        raise ImageError(f'the format {_quoted(text)} {_DEPTH_ADVICE}')
    named = re.search(r'\bcompressed +(\w+)', rest)
    return original, named.group(1) if named else ''


def _declared_size(data: bytes) -> tuple[int, int, int]:
    """(width, height, channels) as the header of a JPEG or PNG states them, decoding nothing."""
    if data.startswith(b'\xff\xd8\xff'):
        width, height, channels = _jpeg_size(data)
    elif data.startswith(_PNG_SIGNATURE):
        width, height, channels = _png_size(data)
    else:
        raise ImageError(
            f'the compressed image is neither JPEG nor PNG (it begins with {data[:8].hex(" ")}): '
            'set the publisher to one of them'
        )
    if width == 0 or height == 0 or width * height > MOST_PIXELS:
        raise ImageError(
            f'the compressed image says it is {width}x{height}: it must have between 1 and '
            f'{MOST_PIXELS} pixels'
        )
    return width, height, channels


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    if data.count(b'\xff\xda') > _MOST_JPEG_SCANS:
        raise ImageError(f'the JPEG has more than {_MOST_JPEG_SCANS} scans, as no camera makes it')
    if data.rfind(b'\xff\xd9') < 0:
        raise ImageError(f'the JPEG is cut short: its end is not among its {len(data)} bytes')
    position = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        # As decoders do: whatever is between the segments is passed over.
        marker = re.compile(rb'\xff([^\x00\xff])', re.DOTALL).search(data, position)
        if marker is None:
            break
        kind, position = marker.group(1)[0], marker.end()
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:
            continue
        if kind in (0xD8, 0xD9, 0xDA) or position + 8 > len(data):
            break
        (length,) = struct.unpack_from('>H', data, position)
        if length < 2:
            break
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            _, height, width, channels = struct.unpack_from('>BHHB', data, position + 2)
            return width, height, channels
        position += length
    raise ImageError('the JPEG is damaged: it does not state its size before its first scan')


def _png_size(data: bytes) -> tuple[int, int, int]:
    if len(data) < 33 or data[8:16] != b'\x00\x00\x00\x0dIHDR':
        raise ImageError('the PNG is damaged: it does not begin with its header')
    if data.rfind(b'IEND') < 0:
        raise ImageError(f'the PNG is cut short: its end is not among its {len(data)} bytes')
    width, height, _, colour_type = struct.unpack_from('>IIBB', data, 16)
    return width, height, {0: 1, 4: 2, 6: 4}.get(colour_type, 3)


def _message_bytes(pixels: np.ndarray) -> array.array[int]:
    # The one assignment that is fast whether or not messages check their fields: bytes are
    # checked one by one, and an ndarray is copied element by element.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data)
    return data


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + '...')

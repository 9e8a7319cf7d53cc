# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import array
import struct
import sys
import tracemalloc
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker_ros.ros import images
from tracker_ros.ros.images import ImageError, decode_compressed, find_cv_bridge, to_bgr, view

COLOURS = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
"""A small BGR picture; its even sides suit every encoding."""


def message_of(pixels, encoding, padding=0, big_endian=False, height=None):
    """An Image message of an (H, W) or (H, W, C) array, each row followed by `padding` bytes."""
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder('>'))
    rows = [row.tobytes() + b'\xee' * padding for row in pixels]
    return SimpleNamespace(
        height=height or pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=len(rows[0]),
        data=array.array('B', b''.join(rows)),
    )


def with_alpha(pixels):
    return np.dstack([pixels, np.full(pixels.shape[:2], 200, np.uint8)])


def grey_of(bgr):
    return bgr[..., 0]


def as_16_bits(pixels):
    """16-bit values which do not fall on whole 8-bit ones."""
    return (pixels.astype(np.uint32) * 251 + 97).astype(np.uint16)


def eight_bits_of(pixels):
    return np.floor(pixels.astype(np.float64) * 255 / 65535 + 0.5).astype(np.uint8)


def grey_picture(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def mosaic_of(bgr, pattern):
    """Keeps one colour of each pixel, by the names of the first two rows' first two pixels."""
    mosaic = np.empty(bgr.shape[:2], bgr.dtype)
    for place, name in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = bgr[row::2, column::2, 'bgr'.index(name)]
    return mosaic


def bgr_of_yuv(luma, u, v):
    """ITU-R BT.601, the range of video (luma 16 to 235)."""
    y, u, v = (1.164383 * (luma.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128)
    blue, red = y + 2.017232 * u, y + 1.596027 * v
    green = y - 0.391762 * u - 0.812968 * v
    return np.clip(np.rint(np.stack([blue, green, red], axis=-1)), 0, 255).astype(np.uint8)


def half_resolution(rows, columns, seed):
    return np.random.default_rng(seed).integers(60, 190, (rows, columns), np.uint8)


PLAIN = {
    'bgr8': (COLOURS, COLOURS),
    '8UC3': (COLOURS, COLOURS),
    'rgb8': (COLOURS[..., ::-1], COLOURS),
    'bgra8': (with_alpha(COLOURS), COLOURS),
    '8UC4': (with_alpha(COLOURS), COLOURS),
    'rgba8': (with_alpha(COLOURS[..., ::-1]), COLOURS),
    'mono8': (grey_of(COLOURS), grey_picture(grey_of(COLOURS))),
    '8UC1': (grey_of(COLOURS), grey_picture(grey_of(COLOURS))),
    'mono16': (
        as_16_bits(grey_of(COLOURS)),
        grey_picture(eight_bits_of(as_16_bits(grey_of(COLOURS)))),
    ),
    'bgr16': (as_16_bits(COLOURS), eight_bits_of(as_16_bits(COLOURS))),
    'rgb16': (as_16_bits(COLOURS[..., ::-1]), eight_bits_of(as_16_bits(COLOURS))),
    'bgra16': (as_16_bits(with_alpha(COLOURS)), eight_bits_of(as_16_bits(COLOURS))),
    'rgba16': (as_16_bits(with_alpha(COLOURS[..., ::-1])), eight_bits_of(as_16_bits(COLOURS))),
}


@pytest.mark.parametrize('padding', [0, 2, 7])
@pytest.mark.parametrize('encoding', PLAIN)
def test_colour_and_grey_encodings(encoding, padding):
    stored, expected = PLAIN[encoding]
    message = message_of(stored, encoding, padding)
    assert np.array_equal(view(message), stored)
    assert np.array_equal(to_bgr(message), expected)


@pytest.mark.parametrize('padding', [0, 1])
@pytest.mark.parametrize('encoding', [name for name in PLAIN if name.endswith('16')])
def test_big_endian_pixels_are_swapped(encoding, padding):
    stored, expected = PLAIN[encoding]
    message = message_of(stored, encoding, padding, big_endian=True)
    pixels = view(message)
    assert pixels.dtype == np.uint16
    assert pixels.dtype.isnative
    assert np.array_equal(pixels, stored)
    assert np.array_equal(to_bgr(message), expected)


def test_sixteen_bits_span_eight():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_bgr(message_of(every, 'mono16'))[..., 0], eight_bits_of(every))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_packed_yuv(encoding, padding):
    luma = half_resolution(6, 8, 1)
    u, v = half_resolution(6, 4, 2), half_resolution(6, 4, 3)
    chroma = np.empty_like(luma)
    chroma[:, 0::2], chroma[:, 1::2] = u, v
    pair = (chroma, luma) if encoding in ('yuv422', 'uyvy') else (luma, chroma)
    got = to_bgr(message_of(np.dstack(pair), encoding, padding))
    expected = bgr_of_yuv(luma, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(got.astype(int) - expected).max() <= 2


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(('encoding', 'u_first'), [('nv12', True), ('nv21', False)])
def test_planar_yuv(encoding, u_first, padding):
    luma = half_resolution(6, 8, 1)
    u, v = half_resolution(3, 4, 2), half_resolution(3, 4, 3)
    chroma = np.empty((3, 8), np.uint8)
    chroma[:, 0::2], chroma[:, 1::2] = (u, v) if u_first else (v, u)
    message = message_of(np.vstack([luma, chroma]), encoding, padding, height=6)
    assert view(message).shape == (9, 8)
    got = to_bgr(message)
    expected = bgr_of_yuv(luma, *(c.repeat(2, axis=0).repeat(2, axis=1) for c in (u, v)))
    assert np.abs(got.astype(int) - expected).max() <= 2


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_mosaics(pattern, bits, padding):
    """Two fields of strong colours: any other pattern would exchange or mix their channels."""
    scene = np.empty((12, 16, 3), np.uint8)
    scene[:, :8], scene[:, 8:] = (20, 120, 230), (240, 60, 10)
    mosaic = mosaic_of(scene, pattern)
    if bits == 16:
        mosaic = mosaic.astype(np.uint16) * 257
    got = to_bgr(message_of(mosaic, f'bayer_{pattern}{bits}', padding))
    assert np.array_equal(got[:, :6], scene[:, :6])
    assert np.array_equal(got[:, 10:], scene[:, 10:])


def test_bayer_big_endian():
    scene = np.full((6, 8, 3), (20, 120, 230), np.uint8)
    mosaic = mosaic_of(scene, 'grbg').astype(np.uint16) * 257
    assert np.array_equal(to_bgr(message_of(mosaic, 'bayer_grbg16', big_endian=True)), scene)


@pytest.mark.parametrize('encoding', ['bgr8', '8UC3'])
def test_bgr_is_a_view_that_cannot_change_the_message(encoding):
    message = message_of(COLOURS, encoding, padding=4)
    pixels = to_bgr(message)
    message.data[message.step * 2 + 3] ^= 0xFF
    assert pixels[2, 1, 0] == message.data[message.step * 2 + 3] != COLOURS[2, 1, 0]
    with pytest.raises(ValueError, match='read-only'):
        pixels[0, 0] = 0


def test_last_row_may_lack_its_padding():
    message = message_of(COLOURS, 'bgr8', padding=10)
    message.data = message.data[:-10]
    assert np.array_equal(to_bgr(message), COLOURS)


@pytest.mark.parametrize('wrap', [bytes, bytearray, memoryview, np.asarray])
def test_data_may_be_any_buffer(wrap):
    message = message_of(COLOURS, 'rgb8')
    message.data = wrap(message.data.tobytes() if wrap is not np.asarray else message.data)
    assert np.array_equal(to_bgr(message), COLOURS[..., ::-1])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'width': 0}, '0x6: it must have between 1 and'),
        ({'height': 0}, '8x0: it must have between 1 and'),
        ({'height': -6}, '8x-6'),
        ({'width': 2**32 - 1, 'height': 2**32 - 1, 'step': 2**32 - 1}, '4294967295x4294967295'),
        ({'width': 2.5}, r'width is 2\.5, it must be a whole number'),
        ({'height': None}, 'height is None'),
        ({'step': 23}, r'step is 23, but a row of 8 bgr8 pixels has 24 bytes'),
        ({'step': 0}, 'step is 0'),
        ({'step': 2**32 - 1}, 'data has 144 bytes, but .* step 4294967295 needs'),
        ({'height': 7}, 'data has 144 bytes, but 8x7 bgr8 with step 24 needs 168'),
        ({'data': b''}, 'data is empty'),
        ({'data': None}, 'data is NoneType, it must be bytes'),
        ({'data': [1] * 144}, 'data is list, it must be bytes'),
        ({'data': 'text' * 36}, 'data is str, it must be bytes'),
        ({'encoding': ''}, "encoding '' is not supported.*bgr8"),
        ({'encoding': 'BGR8'}, "encoding 'BGR8' is not supported.*bgr8"),
        ({'encoding': 'x' * 10**6}, r"encoding 'x{57}\.\.\.' is not supported"),
        ({'encoding': 7}, 'encoding is int, it must be text'),
        ({'encoding': 'nv12', 'height': 5}, 'nv12 cannot be 8x5.*multiple of 2.*height of 2'),
        ({'encoding': 'nv12', 'width': 7}, 'nv12 cannot be 7x6'),
        ({'encoding': 'yuv422', 'width': 7}, 'yuv422 cannot be 7x6: .* multiple of 2'),
        ({'encoding': 'bayer_rggb8', 'height': 2}, 'bayer_rggb8 cannot be 8x2.*at least 3x3'),
    ],
)
def test_impossible_messages_are_refused_with_the_reason(changes, words):
    message = message_of(COLOURS, 'bgr8')
    vars(message).update(changes)
    with pytest.raises(ImageError, match=words):
        to_bgr(message)
    with pytest.raises(ImageError):
        view(message)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_depth_is_refused_with_advice(encoding):
    depth = np.zeros((6, 8), np.uint16 if encoding == '16UC1' else np.float32)
    for function in (view, to_bgr):
        with pytest.raises(ImageError, match=f'{encoding} holds distances.*colour or infrared'):
            function(message_of(depth, encoding))


def test_a_false_size_allocates_nothing():
    message = message_of(COLOURS, 'mono8')
    message.width, message.height, message.step = 8000, 8000, 8000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match='data has 144 bytes'):
            to_bgr(message)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# Hostile messages

anything = st.one_of(st.none(), st.text(max_size=8), st.floats(), st.binary(max_size=8))
side = st.one_of(
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**15, 2**16, 2**31, 2**32 - 1]),
    anything,
)


@st.composite
def plausible_messages(draw):
    """Messages that are right but for a byte or two, so that many of them are accepted."""
    encoding = draw(st.sampled_from([*images._LAYOUTS, '8UC2', 'nv24', '32FC3']))
    layout = images._LAYOUTS.get(encoding, images._LAYOUTS['bgr8'])
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    row = width * layout.channels * layout.item_bytes
    step = row + draw(st.sampled_from([0, 0, 0, 1, 2, 5, -1, -row]))
    rows = height * 3 // 2 if layout.planar else height
    size = max(0, step * rows + draw(st.sampled_from([0, 0, 0, 1, -1, -step, 100])))
    data = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, size, np.uint8)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=draw(st.sampled_from([0, 1, 255])),
        step=step,
        data=draw(st.sampled_from([bytes, lambda raw: array.array('B', raw)]))(data.tobytes()),
    )


wild_messages = st.builds(
    SimpleNamespace,
    height=side,
    width=side,
    encoding=st.one_of(st.sampled_from([*images._LAYOUTS, '16UC1', '32FC1']), anything),
    is_bigendian=st.integers(0, 255),
    step=side,
    data=st.one_of(st.binary(max_size=400), st.lists(st.integers(0, 255), max_size=9), anything),
)


def read_byte_by_byte(message):
    """What `view` must give, from the definition of the message."""
    layout = images._LAYOUTS[message.encoding]
    rows = message.height * 3 // 2 if layout.planar else message.height
    form = ('>' if message.is_bigendian else '<') + ('H' if layout.item_bytes == 2 else 'B')
    values = [
        struct.unpack_from(
            form,
            message.data,
            row * message.step + (column * layout.channels + channel) * layout.item_bytes,
        )[0]
        for row in range(rows)
        for column in range(message.width)
        for channel in range(layout.channels)
    ]
    shape = (rows, message.width) + ((layout.channels,) if layout.channels > 1 else ())
    return np.array(values).reshape(shape)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(message=st.one_of(plausible_messages(), wild_messages))
def test_any_message_is_an_error_or_a_picture(message):
    try:
        pixels = view(message)
    except ImageError:
        with pytest.raises(ImageError):
            to_bgr(message)
        return
    assert np.array_equal(pixels, read_byte_by_byte(message))
    picture = to_bgr(message)
    assert picture.shape == (message.height, message.width, 3)
    assert picture.dtype == np.uint8


# Compressed images

SMOOTH = cv2.GaussianBlur(
    np.random.default_rng(2).integers(0, 256, (40, 56, 3), np.uint8), (0, 0), 5
)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 255, cv2.NORM_MINMAX)


def compressed(pixels, suffix, form, *options):
    encoded, data = cv2.imencode(suffix, pixels, list(options))
    assert encoded
    return SimpleNamespace(format=form, data=array.array('B', data.tobytes()))


@pytest.mark.parametrize(
    'form', ['jpeg', 'jpg', '', 'bgr8; jpeg compressed bgr8', 'rgb8; jpeg compressed bgr8', 'rgb8']
)
def test_jpeg(form):
    picture = decode_compressed(compressed(SMOOTH, '.jpg', form, cv2.IMWRITE_JPEG_QUALITY, 98))
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - SMOOTH).mean() < 3


def test_progressive_and_grey_jpeg():
    progressive = compressed(SMOOTH, '.jpg', 'jpeg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert np.abs(decode_compressed(progressive).astype(int) - SMOOTH).mean() < 4
    grey = compressed(grey_of(SMOOTH), '.jpg', 'mono8; jpeg compressed mono8')
    picture = decode_compressed(grey)
    assert picture.shape == SMOOTH.shape
    assert (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize('form', ['png', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8'])
def test_png(form):
    assert np.array_equal(decode_compressed(compressed(SMOOTH, '.png', form)), SMOOTH)


def test_png_with_alpha_and_16_bits():
    clear = compressed(with_alpha(SMOOTH), '.png', 'bgra8; png compressed bgra8')
    assert np.array_equal(decode_compressed(clear), SMOOTH)
    deep = compressed(SMOOTH.astype(np.uint16) * 257, '.png', 'bgr16; png compressed bgr16')
    assert np.array_equal(decode_compressed(deep), SMOOTH)


def test_a_stream_told_to_hold_rgb_is_put_right():
    swapped = compressed(SMOOTH[..., ::-1], '.png', 'rgb8; png compressed rgb8')
    assert np.array_equal(decode_compressed(swapped), SMOOTH)


def test_a_compressed_mosaic_gets_its_colours():
    scene = np.full((8, 10, 3), (20, 120, 230), np.uint8)
    mosaic = compressed(mosaic_of(scene, 'grbg'), '.png', 'bayer_grbg8; png compressed ')
    assert np.array_equal(decode_compressed(mosaic), scene)
    tiny = compressed(mosaic_of(scene[:2], 'grbg'), '.png', 'bayer_grbg8; png compressed ')
    with pytest.raises(ImageError, match='bayer_grbg8 cannot be 10x2'):
        decode_compressed(tiny)


def test_orientation_of_photographs_is_ignored():
    plain = compressed(SMOOTH, '.jpg', 'jpeg').data.tobytes()
    tiff = struct.pack('>2sHIHHHIHHI', b'MM', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b'Exif\0\0' + tiff
    turned = plain[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + plain[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (56, 40, 3)
    picture = decode_compressed(SimpleNamespace(format='jpeg', data=turned))
    assert picture.shape == SMOOTH.shape


@pytest.mark.parametrize(
    'form', ['16UC1; compressedDepth', '32FC1; compressedDepth png', '16UC1; png compressed ']
)
def test_compressed_depth_is_refused(form):
    depth = compressed(np.zeros((6, 8), np.uint16), '.png', form)
    with pytest.raises(ImageError, match='holds distances'):
        decode_compressed(depth)


def png_of_size(width, height):
    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(bytes(10**6)))
        + chunk(b'IEND', b'')
    )


def jpeg_of_size(width, height):
    """A small JPEG whose header is made to state another size."""
    data = bytearray(compressed(SMOOTH, '.jpg', 'jpeg').data.tobytes())
    frame = data.index(b'\xff\xc0')
    data[frame + 5 : frame + 9] = struct.pack('>HH', height, width)
    return bytes(data)


@pytest.mark.parametrize('make', [png_of_size, jpeg_of_size])
@pytest.mark.parametrize('size', [(40000, 40000), (65535, 65535), (0, 100), (100, 0)])
def test_a_bomb_is_refused_before_it_is_decoded(make, size, monkeypatch):
    def never(*_):
        raise AssertionError('it was decoded')

    data = make(*size)
    monkeypatch.setattr(cv2, 'imdecode', never)
    with pytest.raises(ImageError, match=f'says it is {size[0]}x{size[1]}'):
        decode_compressed(SimpleNamespace(format='', data=data))


def test_a_jpeg_of_countless_scans_is_refused(monkeypatch):
    data = compressed(SMOOTH, '.jpg', 'jpeg').data.tobytes()
    data = data[:-2] + b'\xff\xda\x00\x02' * 1000 + data[-2:]
    with pytest.raises(ImageError, match='scans'):
        decode_compressed(SimpleNamespace(format='jpeg', data=data))


def test_size_is_found_behind_other_segments_and_fill_bytes():
    data = compressed(SMOOTH, '.jpg', 'jpeg').data.tobytes()
    thumbnail = compressed(SMOOTH[:8, :8], '.jpg', 'jpeg').data.tobytes()
    segment = b'\xff\xe2' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    data = data[:2] + b'\xff\xff\xff\xff' + segment[1:] + data[2:]
    assert images._declared_size(data) == (56, 40, 3)
    assert decode_compressed(SimpleNamespace(format='jpeg', data=data)).shape == SMOOTH.shape


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', 'data is empty'),
        (None, 'data is NoneType'),
        (b'GIF89a' + bytes(50), 'neither JPEG nor PNG .*47 49 46 38 39 61'),
        (b'\xff\xd8\xff', 'the JPEG is cut short'),
        (b'\xff\xd8\xff\xd9', 'the JPEG is damaged'),
        (b'\xff\xd8' + b'\xff\xe0\x00\x01' * 9 + b'\xff\xd9', 'the JPEG is damaged'),
        (b'\xff\xd8' + b'\xff\xe0\x00\x02' * 10**5 + b'\xff\xd9', 'the JPEG is damaged'),
        (b'\xff\xd8' + b'\xff\xc0\x00\x11\xff\xd9', 'the JPEG is damaged'),
        (b'\x89PNG\r\n\x1a\n', 'the PNG is damaged'),
        (png_of_size(8, 8)[:-12], 'the PNG is cut short'),
        (png_of_size(8, 8)[:40] + b'\xff' * 20 + png_of_size(8, 8)[60:], 'is damaged'),
    ],
)
def test_damaged_compressed_images(data, words):
    with pytest.raises(ImageError, match=words):
        decode_compressed(SimpleNamespace(format='', data=data))


def test_format_must_be_text():
    with pytest.raises(ImageError, match='format is NoneType'):
        decode_compressed(SimpleNamespace(format=None, data=png_of_size(8, 8)))


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.05, 0.5, 0.95])
def test_a_picture_cut_short(suffix, share):
    message = compressed(SMOOTH, suffix, '')
    message.data = message.data[: int(len(message.data) * share)]
    with pytest.raises(ImageError, match='cut short'):
        decode_compressed(message)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    suffix=st.sampled_from(['.jpg', '.png']),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    headward=st.booleans(),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    form=st.one_of(st.sampled_from(['jpeg', 'bayer_rggb8; png compressed ', ';;']), st.text()),
)
def test_any_compressed_message_is_an_error_or_a_picture(suffix, changes, headward, cut, form):
    data = bytearray(compressed(SMOOTH, suffix, '').data.tobytes())
    for place, value in changes:
        data[int(place * (min(len(data), 600) if headward else len(data)))] = value
    data = bytes(data[: int(len(data) * cut)])
    try:
        picture = decode_compressed(SimpleNamespace(format=form, data=data))
    except ImageError:
        return
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.dtype == np.uint8
    assert picture.shape[:2] == images._declared_size(data)[1::-1]


# cv_bridge


@pytest.fixture
def cv_bridge_made_of(tmp_path, monkeypatch):
    """Installs a package named cv_bridge with the given source, and forgets it afterwards."""

    def install(source):
        package = tmp_path / 'cv_bridge'
        package.mkdir()
        (package / '__init__.py').write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.modules.pop('cv_bridge', None)
        find_cv_bridge.cache_clear()

    yield install
    sys.modules.pop('cv_bridge', None)
    find_cv_bridge.cache_clear()


WORKING = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        assert desired_encoding == 'bgr8'
        if message.encoding == 'wrong_shape':
            return np.zeros((1, 1, 3), np.uint8)
        if message.encoding not in ('rgb8', 'special'):
            raise TypeError('Unrecognized image encoding')
        return np.full((message.height, message.width, 3), 9, np.uint8)
"""


def test_cv_bridge_is_used_beyond_the_built_in_encodings(cv_bridge_made_of):
    cv_bridge_made_of(WORKING)
    assert (to_bgr(message_of(COLOURS, 'special')) == 9).all()
    assert np.array_equal(to_bgr(message_of(COLOURS, 'rgb8')), COLOURS[..., ::-1])
    assert 'cv_bridge is used' in find_cv_bridge().finding
    with pytest.raises(ImageError, match="'odd' is not supported: cv_bridge says: Unrecognized"):
        to_bgr(message_of(COLOURS, 'odd'))
    with pytest.raises(ImageError, match='cv_bridge made no 8x6 picture'):
        to_bgr(message_of(COLOURS, 'wrong_shape'))
    with pytest.raises(ImageError, match='holds distances'):
        to_bgr(message_of(np.zeros((6, 8), np.uint16), '16UC1'))


@pytest.mark.parametrize(
    ('source', 'words'),
    [
        ("raise AttributeError('_ARRAY_API not found')", '_ARRAY_API not found'),
        ('import os; os.abort()', 'exit code'),
        ('CvBridge = None', 'does not work here'),
        (WORKING.replace('rgb8', 'none'), 'Unrecognized image encoding'),
    ],
)
def test_a_broken_cv_bridge_is_found_out_once(cv_bridge_made_of, source, words, monkeypatch):
    cv_bridge_made_of(source)
    found = find_cv_bridge()
    assert found.bridge is None
    assert words in found.finding
    monkeypatch.setattr('subprocess.run', None)
    assert find_cv_bridge() is found
    with pytest.raises(ImageError, match=r"'special' is not supported.*publish one of: bgr8"):
        to_bgr(message_of(COLOURS, 'special'))


# Making messages


@pytest.fixture
def header():
    from std_msgs.msg import Header

    return Header(frame_id='camera')


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8', 'mono8'])
def test_made_messages_read_back(header, encoding):
    pixels = grey_of(COLOURS) if encoding == 'mono8' else COLOURS
    message = images.to_message(pixels, header, encoding)
    assert (message.height, message.width, message.encoding) == (6, 8, encoding)
    assert message.header.frame_id == 'camera'
    assert message.step * message.height == len(message.data)
    assert not message.is_bigendian
    assert np.array_equal(view(message), pixels)


def test_a_part_of_a_picture_is_made_contiguous(header):
    part = COLOURS[1:5, 2:7]
    assert np.array_equal(to_bgr(images.to_message(part, header)), part)


@pytest.mark.parametrize(
    ('pixels', 'encoding'),
    [
        (COLOURS, 'mono8'),
        (COLOURS[..., 0], 'bgr8'),
        (COLOURS.astype(np.float32), 'bgr8'),
        (with_alpha(COLOURS), 'bgr8'),
        (COLOURS, 'yuv422'),
    ],
)
def test_arrays_that_do_not_fit_the_encoding(header, pixels, encoding):
    with pytest.raises(ImageError):
        images.to_message(pixels, header, encoding)


def test_made_compressed_messages_read_back(header):
    fine = images.to_compressed_message(SMOOTH, header, quality=98)
    coarse = images.to_compressed_message(SMOOTH, header, quality=10)
    assert fine.format == 'bgr8; jpeg compressed bgr8'
    assert fine.header.frame_id == 'camera'
    assert len(coarse.data) < len(fine.data)
    assert np.abs(decode_compressed(fine).astype(int) - SMOOTH).mean() < 3


def test_what_has_no_jpeg(header):
    with pytest.raises(ImageError, match='JPEG'):
        images.to_compressed_message(np.zeros((0, 0, 3), np.uint8), header)

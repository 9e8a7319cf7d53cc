# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from tracker_ros.footage import (
    FALLBACK_RATE_HZ,
    FootageError,
    natural_key,
    open_footage,
)


def numbered_frame(number, width=64, height=48):
    """A flat frame whose grey level says which one it is, also after lossy coding."""
    return np.full((height, width, 3), 10 + 20 * number, np.uint8)


def number_of(frame):
    return round((float(frame.mean()) - 10) / 20)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 12.5, (64, 48))
    assert writer.isOpened()
    for number in range(6):
        writer.write(numbered_frame(number))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    """Images whose natural order is not their alphabetical one."""
    for number in range(12):
        assert cv2.imwrite(str(tmp_path / f'frame_{number}.png'), numbered_frame(number))
    (tmp_path / 'notes.txt').write_text('not an image')
    return tmp_path


def test_video_tells_its_size_rate_and_count(video):
    with open_footage(video) as footage:
        assert footage.size == (footage.width, footage.height) == (64, 48)
        assert footage.rate_hz == pytest.approx(12.5)
        assert footage.frame_count == 6
        assert footage.name == 'clip.avi'
        assert not footage.live


def test_video_yields_every_frame_each_time(video):
    footage = open_footage(str(video))
    for _ in range(2):
        frames = list(footage)
        assert [number_of(frame) for frame in frames] == [0, 1, 2, 3, 4, 5]
        assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)


def test_two_iterations_of_a_video_do_not_disturb_each_other(video):
    footage = open_footage(video)
    first, second = iter(footage), iter(footage)
    assert [number_of(next(first)), number_of(next(first))] == [0, 1]
    assert number_of(next(second)) == 0
    assert number_of(next(first)) == 2


@pytest.mark.parametrize('kind', ['video', 'folder'])
def test_frames_start_where_asked(kind, request):
    footage = open_footage(request.getfixturevalue(kind))
    assert number_of(next(footage.frames(start=4))) == 4


@pytest.mark.parametrize('kind', ['video', 'folder'])
@pytest.mark.parametrize('beyond', [0, 5])
def test_start_behind_the_end_is_refused(kind, beyond, request):
    footage = open_footage(request.getfixturevalue(kind))
    with pytest.raises(FootageError, match=rf'only {footage.frame_count} frames'):
        list(footage.frames(start=footage.frame_count + beyond))


@pytest.mark.parametrize('kind', ['video', 'folder'])
def test_closing_ends_a_running_iteration(kind, request):
    footage = open_footage(request.getfixturevalue(kind))
    frames = iter(footage)
    next(frames)
    footage.close()
    assert list(frames) == []


def test_folder_is_read_in_natural_order(folder):
    footage = open_footage(folder)
    assert [number_of(frame) for frame in footage] == list(range(12))
    assert footage.frame_count == 12
    assert footage.rate_hz == FALLBACK_RATE_HZ


def test_grey_and_transparent_images_become_bgr(tmp_path):
    grey = np.full((8, 8), 77, np.uint8)
    clear = np.dstack([np.full((8, 8), level, np.uint8) for level in (1, 2, 3, 0)])
    cv2.imwrite(str(tmp_path / 'a.png'), grey)
    cv2.imwrite(str(tmp_path / 'b.png'), clear)
    first, second = open_footage(tmp_path)
    assert (first == 77).all()
    assert first.shape == (8, 8, 3)
    assert second[0, 0].tolist() == [1, 2, 3]


def test_one_image_is_footage_of_one_frame(folder):
    footage = open_footage(folder / 'frame_7.png')
    assert footage.frame_count == 1
    assert [number_of(frame) for frame in footage] == [7]


def test_natural_order():
    names = ['b1', 'a10', 'a2', 'A1', '3', '20', 'a']
    assert sorted(names, key=natural_key) == ['3', '20', 'a', 'A1', 'a2', 'a10', 'b1']


def test_missing_file_is_named():
    with pytest.raises(FootageError, match=r"'/no/such/clip\.mp4' does not exist"):
        open_footage('/no/such/clip.mp4')


@pytest.mark.parametrize('source', ['', '  '])
def test_empty_source(source):
    with pytest.raises(FootageError, match='no source was given'):
        open_footage(source)


@pytest.mark.parametrize('content', [b'', b'hello ' * 100, bytes(range(256)) * 64])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / 'clip.mp4'
    path.write_bytes(content)
    with pytest.raises(FootageError, match=r'clip\.mp4.*video'):
        open_footage(path)


def test_a_video_cut_short_yields_what_it_holds(tmp_path):
    path = tmp_path / 'noise.avi'
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10.0, (64, 48))
    for _ in range(6):
        writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    whole = list(open_footage(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    rest = list(open_footage(path))
    assert len(whole) == 6
    assert 1 <= len(rest) < 6
    assert np.array_equal(rest[0], whole[0])


def test_empty_folder(tmp_path):
    with pytest.raises(FootageError, match=r'holds no image.*\.png'):
        open_footage(tmp_path)


def test_unreadable_image_in_a_folder_is_named(folder):
    (folder / 'frame_3.png').write_bytes(b'not a picture')
    with pytest.raises(FootageError, match=r'frame_3\.png.*not an image'):
        list(open_footage(folder))


def test_image_of_another_size_is_named(folder):
    cv2.imwrite(str(folder / 'frame_5.png'), numbered_frame(5, width=32))
    with pytest.raises(FootageError, match=r'frame_5\.png.* is 32x48, but .* is 64x48'):
        list(open_footage(folder))


@pytest.mark.parametrize('as_folder', [False, True])
def test_a_bag_is_sent_to_the_node(tmp_path, as_folder):
    bag = tmp_path / 'drive.mcap'
    bag.write_bytes(b'\x89MCAP0\r\n')
    with pytest.raises(FootageError, match='ros2 run tracker_ros video_source'):
        open_footage(tmp_path if as_folder else bag)


def test_absent_camera_says_which_are_present():
    with pytest.raises(FootageError, match=r'camera 987 cannot be opened; cameras present: '):
        open_footage('987')


class FakeCamera:
    """Stands for a webcam: grey pictures (some drivers give those), then unplugged."""

    def __init__(self, index):
        self.pictures = [np.full((24, 32), level, np.uint8) for level in range(5)]
        self.open = True

    def isOpened(self):  # noqa: N802  (OpenCV's name)
        return self.open

    def read(self):
        return (True, self.pictures.pop(0)) if self.pictures else (False, None)

    def get(self, prop):
        return 0.0

    def release(self):
        self.open = False


def test_camera_is_live_and_its_loss_is_an_error(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    camera = open_footage('2')
    assert camera.live
    assert camera.frame_count is None
    assert (camera.name, camera.size, camera.rate_hz) == ('camera 2', (32, 24), FALLBACK_RATE_HZ)
    frames = iter(camera)
    assert [int(next(frames)[0, 0, 0]) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(FootageError, match='camera 2 gives no more pictures'):
        next(frames)


def test_closing_a_camera_ends_its_frames(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    camera = open_footage('2')
    frames = iter(camera)
    assert next(frames).shape == (24, 32, 3)
    camera.close()
    assert list(frames) == []

# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from tracker_ros.ros import camera_info
from tracker_ros.ros.camera_info import CameraInfoError

CALIBRATION = {
    'image_width': 64,
    'image_height': 48,
    'camera_name': 'front',
    'camera_matrix': {'rows': 3, 'cols': 3, 'data': [50, 0, 32, 0, 51.5, 24, 0, 0, 1]},
    'distortion_model': 'plumb_bob',
    'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [0.1, -0.2, 0, 0, 0]},
    'rectification_matrix': {'rows': 3, 'cols': 3, 'data': [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    'projection_matrix': {
        'rows': 3,
        'cols': 4,
        'data': [49, 0, 31, 0, 0, 50, 23, 0, 0, 0, 1, 0],
    },
}


def written(tmp_path, content):
    path = tmp_path / 'front.yaml'
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_calibration_is_read(tmp_path):
    info = camera_info.load(written(tmp_path, CALIBRATION))
    assert (info.width, info.height, info.distortion_model) == (64, 48, 'plumb_bob')
    assert list(info.k) == [50, 0, 32, 0, 51.5, 24, 0, 0, 1]
    assert list(info.d) == [0.1, -0.2, 0, 0, 0]
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert list(info.p) == [49, 0, 31, 0, 0, 50, 23, 0, 0, 0, 1, 0]


def test_an_uncalibrated_camera_has_a_size_and_no_focal_length():
    info = camera_info.uncalibrated(64, 48)
    assert (info.width, info.height, info.k[0]) == (64, 48, 0.0)


def test_a_missing_file_is_named():
    with pytest.raises(CameraInfoError, match=r"'/no/such/front\.yaml' cannot be read"):
        camera_info.load('/no/such/front.yaml')


@pytest.mark.parametrize('content', ['{', '\t- x: [', 'just text', '', '[1, 2]'])
def test_a_file_which_is_no_calibration(tmp_path, content):
    with pytest.raises(CameraInfoError, match=r'front\.yaml'):
        camera_info.load(written(tmp_path, content))


@pytest.mark.parametrize('name', [name for name in CALIBRATION if name != 'camera_name'])
def test_a_missing_entry_is_named(tmp_path, name):
    rest = {key: value for key, value in CALIBRATION.items() if key != name}
    with pytest.raises(CameraInfoError, match=f"has no entry '{name}'"):
        camera_info.load(written(tmp_path, rest))


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('image_width', 'wide', "image_width is 'wide'"),
        ('image_height', 0, 'image_height is 0'),
        ('camera_matrix', [1, 2, 3], "camera_matrix must have a list 'data' of 9"),
        ('camera_matrix', {'data': [1] * 8}, 'camera_matrix must have .* of 9 numbers'),
        ('projection_matrix', {'data': [1] * 9}, 'projection_matrix must have .* of 12 numbers'),
        ('camera_matrix', {'data': ['x'] * 9}, 'camera_matrix: could not convert'),
        ('camera_matrix', {'data': [float('nan')] * 9}, 'camera_matrix .* not finite'),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, name, value, words):
    with pytest.raises(CameraInfoError, match=words):
        camera_info.load(written(tmp_path, {**CALIBRATION, name: value}))

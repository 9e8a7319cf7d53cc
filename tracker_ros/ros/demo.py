# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What `make demo` runs: footage through two real processes, and what came of it on disk.

`video_source` plays the footage, the node tracks, and this process is the operator: it starts
the target by the service on the first picture and collects what the node publishes. The
pictures it leaves are drawn afterwards, so that they take no time from the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import SetBool

from tracker_ros import __version__
from tracker_ros.arguments import box as box_argument
from tracker_ros.evaluation.sequences import SequenceError, read_boxes
from tracker_ros.footage import FootageError, open_footage
from tracker_ros.geometry import Box
from tracker_ros.ros.messages import nanoseconds
from tracker_ros.ros.processes import Child, ProcessError, node_command
from tracker_ros.ros.rig import Rig, running_node
from tracker_ros.tracking import Observation, State
from tracker_ros.tracking.overlay import draw, draw_box

SOUND_IOU = 0.6
"""Below this mean overlap the run on the rendered scene counts as failed."""

# Longer than any pause of a source that still plays.
_SILENCE_S = 30.0
_TRUTH_COLOUR = (255, 255, 255)
_SHEET_COLUMNS, _SHEET_ROWS = 4, 3
_SHEET_WIDTH_PX = 480


@dataclass(slots=True)
class Frame:
    """What is known about one frame of the footage; boxes x, y, w, h in pixels."""

    frame: int
    stamp_ns: int
    box: list[float] | None = None
    score: float | None = None
    state: str = 'DROPPED'
    latency_ms: float | None = None
    iou: float | None = field(default=None)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code: 1 where the run was not sound."""
    options = _parser().parse_args(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        video, truth = _footage(options)
        frames, facts = _run(options, video, truth)
        summary = summarise(frames, truth, facts)
        _write(options.output, video, frames, truth, summary)
    except (FootageError, SequenceError, ProcessError, OSError, ValueError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted', file=sys.stderr)
        return 130
    print(json.dumps(summary, indent=2))
    print(f'pictures and tables are in {options.output}')
    fault = what_is_wrong(summary, judged=options.video is None)
    if fault:
        print(f'demo: {fault}', file=sys.stderr)
    return 1 if fault else 0


def what_is_wrong(summary: dict[str, Any], judged: bool) -> str:
    """Why a run was not sound, with the figure; empty for a sound one.

    judged: whether the mean overlap counts, as it does on the rendered scene.
    """
    frames, dropped, overlap = summary['frames'], summary['dropped'], summary['mean_iou']
    if not summary['processed']:
        return f'none of {frames} frames was answered'
    if judged and (overlap is None or overlap < SOUND_IOU):
        return (
            f'the mean IoU is {overlap}, below {SOUND_IOU}; was the machine busy? '
            f'{dropped} of {frames} frames were dropped'
        )
    return ''


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='demo', description='track footage through two processes'
    )
    parser.add_argument('--video', type=Path, help='video or folder of images; default: a scene')
    parser.add_argument('--box', type=box_argument, metavar='x,y,w,h', help='in the first frame')
    parser.add_argument('--model', default='nano')
    parser.add_argument('--output', type=Path, default=Path('out/demo'))
    parser.add_argument('--frames', type=int, default=300, help='length of the scene')
    parser.add_argument('--width', type=int, default=1280, help='of the scene, in pixels')
    parser.add_argument('--height', type=int, default=720, help='of the scene, in pixels')
    parser.add_argument('--rate', type=float, help="frames per second; default: the footage's own")
    parser.add_argument(
        '--domain-id', type=int, help='default: ROS_DOMAIN_ID, or a free one where that is not set'
    )
    return parser


def _footage(options: argparse.Namespace) -> tuple[Path, np.ndarray]:
    """The footage, and the true boxes (n, 4) as far as they are known, NaN where not."""
    if options.video is None:
        from tracker_ros.evaluation.scene import Scene

        print(f'rendering {options.frames} frames', flush=True)
        scene = Scene(options.width, options.height, options.frames, options.rate or 30.0)
        scene.write(options.output)
        return options.output / 'video.mp4', read_boxes(options.output / 'groundtruth.txt')
    beside = options.video.parent / 'groundtruth.txt'
    truth = np.full((0, 4), np.nan)
    if options.box is not None:
        truth = np.array([options.box.xywh()])
    if beside.is_file():
        known = read_boxes(beside)
        truth = known if options.box is None else np.vstack([truth, known[1:]])
    if not len(truth):
        raise ValueError(
            f'{options.video} has no groundtruth.txt beside it: say what to follow with '
            'BOX=x,y,w,h in pixels of the first frame'
        )
    return options.video, truth


def _run(
    options: argparse.Namespace, video: Path, truth: np.ndarray
) -> tuple[list[Frame], dict[str, Any]]:
    """Play the footage into the node; returns its frames and facts about the run."""
    source_parameters = {
        'source': str(video.resolve()),
        'rate_hz': options.rate or 0.0,
        'start_paused': True,
        'repeat_while_paused': True,
        'exit_at_end': True,
    }
    domain_id = options.domain_id
    if domain_id is None and os.environ.get('ROS_DOMAIN_ID'):
        domain_id = int(os.environ['ROS_DOMAIN_ID'])
    with running_node({'model': options.model}, domain_id) as rig:
        # The camera info comes once with each picture: the n-th is that of frame n.
        stamps: list[int] = []

        def note(message: CameraInfo) -> None:
            stamps.append(nanoseconds(message.header.stamp))

        rig.node.create_subscription(CameraInfo, 'camera_info', note, QoSProfile(depth=1000))
        resume = rig.node.create_client(SetBool, 'video_source/pause')
        command = node_command('tracker_ros.ros.video_source', parameters=source_parameters)
        with Child('video source', command, rig.environment) as source:
            source.wait_until(
                lambda: (
                    resume.service_is_ready()
                    and rig.node.count_publishers('image_raw') > 1
                    and rig.node.count_publishers('camera_info') > 0
                    and rig.state is not None
                    and rig.state.frames_seen > 0
                ),
                60.0,
                'its pictures',
            )
            answer = rig.init_target(Box(*truth[0]), frame_id='')
            if not answer.success:
                raise ProcessError(f'the node refused the target: {answer.message}')
            rig.call(resume, SetBool.Request(data=False))
            _watch(rig, source, stamps, truth)
            _await_last(rig, stamps)
            facts = {'model': options.model, 'runtime': rig.state.runtime if rig.state else ''}
            return [_frame(rig, number, stamp) for number, stamp in enumerate(stamps)], facts


def _watch(rig: Rig, source: Child, stamps: list[int], truth: np.ndarray) -> None:
    """Show how it goes until the source has played all."""
    live = sys.stdout.isatty()
    told = seen = -1
    heard_s = time.monotonic()
    while source.is_running():
        time.sleep(0.1)
        rig.child.check()
        number = len(stamps) - 1
        if number > seen:
            seen, heard_s = number, time.monotonic()
        elif time.monotonic() - heard_s > _SILENCE_S:
            raise ProcessError(
                f'no picture came for {_SILENCE_S:g} s after frame {number}; the last lines of '
                f'the video source:\n{source.log_tail()}'
            )
        if number < 0 or number == told or (not live and number - told < 60):
            continue
        told = number
        print(_live_line(rig, stamps, truth), end='\r' if live else '\n', flush=True)
    if live:
        print()
    if source.returncode:
        raise ProcessError(f'the video source failed:\n{source.log_tail()}')


def _live_line(rig: Rig, stamps: list[int], truth: np.ndarray) -> str:
    """The newest answered frame in one line."""
    dropped = rig.state.frames_dropped if rig.state else 0
    for number in range(len(stamps) - 1, -1, -1):
        if rig.received(stamps[number]):
            frame = _frame(rig, number, stamps[number])
            iou = _iou(frame, truth)
            shown = f'IoU {iou:.2f}' if iou is not None else ''
            return (
                f'frame {number:4d}  {frame.state:9}  score {frame.score or 0:.2f}  {shown:9} '
                f'latency {frame.latency_ms:5.1f} ms  dropped {dropped}   '
            )
    return 'waiting for the first answer'


def _await_last(rig: Rig, stamps: list[int]) -> None:
    """Give the answer to the last frame time to come; it may also have been dropped."""
    if stamps:
        rig.await_detection(stamps[-1], timeout_s=2.0)


def _frame(rig: Rig, number: int, stamp_ns: int) -> Frame:
    frame = Frame(number, stamp_ns)
    received = rig.received(stamp_ns)
    if received is None:
        return frame
    frame.latency_ms = (received.received_ns - stamp_ns) * 1e-6
    frame.state = State(rig.state_at(stamp_ns)).name
    if received.box is not None:
        frame.box = [round(value, 3) for value in received.box.xywh()]
        frame.score = round(received.score, 4)
    return frame


def _iou(frame: Frame, truth: np.ndarray) -> float | None:
    """Overlap with the truth; 0 without a box, None where no truth is known."""
    if frame.frame >= len(truth) or np.isnan(truth[frame.frame]).any():
        return None
    return Box(*frame.box).iou(Box(*truth[frame.frame])) if frame.box else 0.0


def summarise(frames: list[Frame], truth: np.ndarray, facts: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run. A dropped frame is judged by the last box before it.

    `mean_iou` is over the frames in which the target is seen, the first one, which was given,
    left out; None where no truth is known.
    """
    held: list[float] | None = None
    overlaps = []
    for frame in frames:
        if frame.state != 'DROPPED':
            held = frame.box
        judged = Frame(frame.frame, frame.stamp_ns, held)
        frame.iou = _iou(judged, truth)
        if frame.frame > 0 and frame.iou is not None:
            overlaps.append(frame.iou)
    latencies = [frame.latency_ms for frame in frames if frame.latency_ms is not None]
    p50, p95 = np.percentile(latencies, [50, 95]).tolist() if latencies else (None, None)
    return {
        'frames': len(frames),
        'processed': len(latencies),
        'dropped': len(frames) - len(latencies),
        'mean_iou': _rounded(float(np.mean(overlaps)) if overlaps else None, 4),
        'latency_p50_ms': _rounded(p50, 2),
        'latency_p95_ms': _rounded(p95, 2),
        **facts,
        'version': __version__,
        'python': platform.python_version(),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _write(
    output: Path, video: Path, frames: list[Frame], truth: np.ndarray, summary: dict[str, Any]
) -> None:
    (output / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    with (output / 'detections.jsonl').open('w', encoding='utf-8') as stream:
        for frame in frames:
            print(json.dumps(asdict(frame)), file=stream)
    picked = _picked(frames)
    tiles = []
    held: list[float] | None = None
    writer = None
    with open_footage(str(video)) as footage:
        for frame, image in zip(frames, footage, strict=False):
            held = held if frame.state == 'DROPPED' else frame.box
            picture = _annotated(frame, held, image, truth)
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = cv2.VideoWriter(
                    str(output / 'annotated.mp4'),
                    cv2.VideoWriter_fourcc(*'mp4v'),
                    footage.rate_hz or 30.0,
                    size,
                )
            writer.write(picture)
            if frame.frame in picked:
                height = round(_SHEET_WIDTH_PX * picture.shape[0] / picture.shape[1])
                tiles.append(
                    cv2.resize(picture, (_SHEET_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
                )
    if writer is not None:
        writer.release()
    while len(tiles) % _SHEET_COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [
        np.hstack(tiles[at : at + _SHEET_COLUMNS]) for at in range(0, len(tiles), _SHEET_COLUMNS)
    ]
    if rows:
        cv2.imwrite(str(output / 'contact_sheet.png'), np.vstack(rows))


def _picked(frames: list[Frame]) -> set[int]:
    """Frames for the contact sheet: evenly spread, answered ones where there are any."""
    numbers = [frame.frame for frame in frames if frame.state != 'DROPPED'] or [
        frame.frame for frame in frames
    ]
    count = min(len(numbers), _SHEET_COLUMNS * _SHEET_ROWS)
    places = np.linspace(0, len(numbers) - 1, count).round().astype(int)
    return {numbers[place] for place in places}


def _annotated(
    frame: Frame, held: list[float] | None, image: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """The frame with the true box thin and white, and what a consumer holds over it."""
    picture = image.copy()
    if frame.frame < len(truth) and not np.isnan(truth[frame.frame]).any():
        draw_box(picture, Box(*truth[frame.frame]), _TRUTH_COLOUR, unit=0.5)
    dropped = frame.state == 'DROPPED'
    state = State.IDLE if dropped else State[frame.state]
    box = Box(*held) if held else None
    note = f'frame {frame.frame}' + ('  dropped, the last box is held' if dropped else '')
    score = frame.score or 0.0
    draw(picture, Observation(state, 'target_1', box, score, '', confidence=score), note)
    return picture


if __name__ == '__main__':
    sys.exit(main())

# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page of an evaluation: whole, without a network, and safe with names of others."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.charts import Mark, Series, curves, scatter
from tracker_ros.evaluation.one_pass import Failure, Run
from tracker_ros.evaluation.page import page
from tracker_ros.evaluation.sequences import Sequence
from tracker_ros.evaluation.worst import worst_frame, worst_frames

COUNT = 6
NASTY = '<script>alert(1)</script>"\'&'


class Links(HTMLParser):
    """Collects tags, anchors, links and sources."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.anchors, self.links, self.sources = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        if 'id' in given:
            self.anchors.add(given['id'])
        self.links += [given['href']] if 'href' in given else []
        self.sources += [given['src']] if 'src' in given else []


def runs(tmp_path, name='clip', trackers=('good', 'bad')):
    folder = tmp_path / 'img'
    folder.mkdir(exist_ok=True)
    for index in range(COUNT):
        cv2.imwrite(str(folder / f'{index}.png'), np.full((60, 80, 3), 90, np.uint8))
    truth = np.tile([10.0, 10.0, 20.0, 20.0], (COUNT, 1))
    attributes = ('fast motion', 'occlusion', name)
    sequence = Sequence(name, folder, truth, 80, 60, 30.0, 0, attributes, name)
    times = np.full(COUNT, 0.01)
    return [
        Run(tracker, sequence, truth + [9.0 * place, 0, 0, 0], np.ones(COUNT), times * (place + 1))
        for place, tracker in enumerate(trackers)
    ]


def test_every_link_leads_somewhere_in_the_page_and_nothing_is_loaded(tmp_path):
    found = Links(page('data', runs(tmp_path), []))
    assert found.tags.count('svg') == 5
    assert found.tags.count('img') == 2
    assert '#tracker-0' in found.links
    assert all(link.startswith('#') and link[1:] in found.anchors for link in found.links)
    assert all(source.startswith('data:image/jpeg;base64,') for source in found.sources)
    assert not {'script', 'link', 'iframe', 'object'} & set(found.tags)


def test_curves_have_the_names_of_their_lines_beside_them_best_first(tmp_path):
    text = page('data', runs(tmp_path), [], about='on this <machine>')
    success, precision = re.findall(r'<svg.*?</svg>', text)[:2]
    for chart in (success, precision):
        legend = re.findall(r'class="legend"><title>.*?</title>([\d.]+) (\w+)<', chart)
        assert [name for _, name in legend] == ['good', 'bad']
        assert legend == sorted(legend, reverse=True)
    assert 'on this &lt;machine&gt;' in text


def test_a_legend_cuts_long_names_at_their_beginning_and_says_what_it_has_no_room_for():
    lines = [
        Series(
            f'/home/me/packages/tracker_{place}', [0, 1], [1, 0], place, score=f'{place / 100:.2f}'
        )
        for place in range(30)
    ]
    legend = re.findall(r'class="legend">(?:<title>.*?</title>)?(.*?)<', chart_of(lines))
    assert legend[0] == '0.29 …kages/tracker_29'
    assert legend[-1] == 'and 14 more'
    assert len(legend) == 17


def chart_of(lines):
    return curves('t', 'x', 'y', 1.0, lines)


def test_texts_of_others_stay_texts(tmp_path):
    text = page(
        NASTY, runs(tmp_path, NASTY, (NASTY, 'b')), [Failure(NASTY, NASTY, NASTY)], [NASTY]
    )
    assert 'script' not in Links(text).tags
    assert '&lt;script&gt;' in text


def test_the_best_comes_first_and_what_failed_is_told(tmp_path):
    text = page('data', runs(tmp_path)[::-1], [Failure('bad', 'other', 'no file')], ['x: broken'])
    assert text.index('>good<') < text.index('>bad<')
    assert 'bad failed on other: no file' in text
    assert 'left out: x: broken' in text


def test_a_page_without_runs_tells_why():
    text = page('data', [], [Failure('a', 'b', 'it fell over')])
    assert 'it fell over' in text
    assert 'svg' not in Links(text).tags


def test_a_picture_that_is_gone_does_not_take_the_page_with_it(tmp_path):
    made = runs(tmp_path)
    (tmp_path / 'img' / '0.png').unlink()
    (tmp_path / 'img' / '1.png').write_text('no picture')
    assert 'cannot be read' in page('data', made, [])


def test_the_footage_of_a_clip_is_read_once_for_all_trackers(tmp_path, monkeypatch):
    made, read = runs(tmp_path), []
    frames = Sequence.frames
    monkeypatch.setattr(Sequence, 'frames', lambda self: read.append(self.name) or frames(self))
    worst = worst_frames({run.tracker: [run] for run in made})
    assert read == ['clip']
    (good,), (bad,) = worst['good'], worst['bad']
    assert (good.frame, bad.frame) == (0, 0)
    picture = cv2.imdecode(np.frombuffer(bad.jpeg, np.uint8), cv2.IMREAD_COLOR)
    # 80 px are drawn 360 px wide; the found box begins at 19 px, the true one at 10.
    assert picture.shape == (270, 360, 3)
    (y, x), (true_y, true_x) = (90, round(19 * 4.5)), (90, round(10 * 4.5))
    assert picture[y, x, 2] > picture[y, x, 1] + 60
    assert picture[true_y, true_x, 1] > picture[true_y, true_x, 2] + 60


def test_a_small_target_is_shown_near_with_all_that_was_found(tmp_path):
    cv2.imwrite(str(tmp_path / '0.png'), np.full((600, 800, 3), 90, np.uint8))
    truth = np.array([[100.0, 100, 20, 20]])
    sequence = Sequence('far', tmp_path, truth, 800, 600, 30.0)
    for x, green_px, red_px in ((140.0, 112, 202), (790.0, 45, 356)):
        run = Run('a', sequence, np.array([[x, 100, 20, 20]]), np.ones(1), np.ones(1))
        ((worst,),) = worst_frames({'a': [run]}).values()
        picture = cv2.imdecode(np.frombuffer(worst.jpeg, np.uint8), cv2.IMREAD_COLOR).astype(int)
        assert picture.shape == (270, 360, 3)
        colour = picture[:, :, 1] - picture[:, :, 2]
        assert np.flatnonzero((colour > 60).any(axis=0))[0] == pytest.approx(green_px, abs=3)
        assert np.flatnonzero((colour < -60).any(axis=0))[0] == pytest.approx(red_px, abs=3)


@pytest.mark.parametrize(
    ('overlap', 'frame'),
    [
        ([1, 0, 1, 0, 0, 0, 1], 4),
        ([1, 0.5, 0.4, 0.9], 2),
        ([1, np.nan, 0.3, np.nan], 2),
        ([1, 0.9, 0.05], 2),
    ],
)
def test_the_worst_frame_is_the_middle_of_the_longest_failure(overlap, frame):
    assert worst_frame(np.array(overlap, dtype=float)) == frame


def test_names_of_near_points_stand_by_their_points_and_not_on_each_other():
    near = [Series(f'tracker_{place}', [100 + place], [0.7], place) for place in range(6)]
    found = re.findall(
        r'<circle cx="([\d.]+)" cy="([\d.]+)".*?<text x="([\d.]+)" y="([\d.]+)" '
        r'text-anchor="(\w+)"',
        scatter('t', 'x', 'y', near),
    )
    assert len(found) == 6
    names = set()
    for *numbers, anchor in found:
        x, y, name_x, name_y = map(float, numbers)
        assert abs(x - name_x) <= 8.1
        assert abs(y - name_y) <= 40
        assert all(abs(name_y - other) >= 11 for other, side in names if side == anchor)
        names.add((name_y, anchor))


def test_names_of_points_do_not_stand_on_marks_of_papers():
    mark = Mark('a', 'paper', 100.0, 0.7)
    bare = scatter('t', 'x', 'y', [Series('tracker', [80.0], [0.7], 0)])
    beside = scatter('t', 'x', 'y', [Series('tracker', [80.0], [0.7], 0)], [mark])
    name = r'text-anchor="(\w+)" class="name">tracker<'
    assert re.findall(name, bare) == ['start']
    assert re.findall(name, beside) == ['end']

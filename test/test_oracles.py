# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The same boxes scored by us and by the reference tools (requirements/oracles.txt); OTB's area
under the curve by its definition.
"""

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation import metrics
from tracker_ros.evaluation.datasets import read_dataset
from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.report import mean_scores_of
from tracker_ros.evaluation.submission import write_submissions

SIZE = (640, 480)
EQUAL = 1e-4


def sequence(seed, count=120):
    """A walk of true boxes near the image's edges, and predictions that come off it."""
    random = np.random.default_rng(seed)
    corner = np.cumsum(random.normal(0, 12, (count, 2)), axis=0) + random.uniform(0, 400, 2)
    size = random.uniform(20, 120, (1, 2)) * np.exp(
        np.cumsum(random.normal(0, 0.02, (count, 2)), 0)
    )
    truth = np.hstack([np.clip(corner, -20, [600, 440]), size])
    predicted = truth + random.normal(0, 1, (count, 4)) * random.choice([1, 8, 60], (count, 1))
    predicted[:, 2:] = np.maximum(predicted[:, 2:], 2)
    predicted[0] = truth[0]
    return predicted, truth


SEQUENCES = [sequence(seed) for seed in range(6)]


@pytest.mark.parametrize('seed', range(len(SEQUENCES)))
def test_auc_is_otbs_definition(seed):
    predicted, truth = SEQUENCES[seed]
    overlaps = []
    for (x, y, w, h), (tx, ty, tw, th) in zip(predicted, truth, strict=True):
        across = max(min(x + w, tx + tw) - max(x, tx), 0)
        down = max(min(y + h, ty + th) - max(y, ty), 0)
        overlaps.append(min(across * down / (w * h + tw * th - across * down), 1.0))
    shares = [
        sum(overlap > step * 0.05 for overlap in overlaps) / len(overlaps) for step in range(21)
    ]
    scores = metrics.score_sequence(predicted, truth, SIZE)
    assert scores.auc == pytest.approx(sum(shares) / 21, abs=EQUAL)


@pytest.mark.parametrize('seed', range(len(SEQUENCES)))
def test_curves_are_those_of_the_got10k_toolkits_otb(seed, oracles):
    from got10k.experiments import ExperimentOTB

    predicted, truth = SEQUENCES[seed]
    theirs = ExperimentOTB.__new__(ExperimentOTB)
    theirs.nbins_iou, theirs.nbins_ce = 21, 51
    success, precision = theirs._calc_curves(*theirs._calc_metrics(predicted.copy(), truth.copy()))
    ours = metrics.score_sequence(predicted, truth, SIZE)
    assert ours.success_curve == pytest.approx(success, abs=EQUAL)
    assert ours.precision_curve == pytest.approx(precision, abs=EQUAL)


def test_ao_and_sr_are_those_of_the_got10k_toolkit(oracles):
    from got10k.experiments import ExperimentGOT10k
    from got10k.utils.metrics import rect_iou

    theirs = ExperimentGOT10k.__new__(ExperimentGOT10k)
    theirs.nbins_iou = 101
    ious, errors = [], []
    for seed, (predicted, truth) in enumerate(SEQUENCES):
        cover = np.random.default_rng(seed).integers(0, 9, len(truth))
        cover[0] = 8
        found = rect_iou(predicted[1:].copy(), truth[1:].copy(), bound=SIZE)
        ious.append(found[cover[1:] > 0])
        seen = np.where(cover[:, None] == 0, np.nan, truth)
        errors.append(metrics.errors_of(predicted, seen, SIZE))
        alone, alone_sr, _, _ = theirs._evaluate(ious[-1], np.array([]))
        ours = metrics.scores_of(errors[-1])
        assert (ours.ao, ours.sr50) == pytest.approx((alone, alone_sr), abs=EQUAL)
    ao, sr50, _, _ = theirs._evaluate(np.concatenate(ious), np.array([]))
    scores = metrics.mean_scores(errors)
    sr75 = np.mean(np.concatenate(ious) > 0.75)
    assert (scores.ao, scores.sr50, scores.sr75) == pytest.approx((ao, sr50, sr75), abs=EQUAL)


def got10k_validation(root, count=20):
    """The validation set as it is downloaded, of the first of SEQUENCES."""
    names = [f'GOT-10k_Val_{number:06d}' for number in (1, 2, 3)]
    for name, (_, truth) in zip(names, SEQUENCES, strict=False):
        folder = root / 'val' / name
        folder.mkdir(parents=True)
        for index in range(count):
            image = np.full((SIZE[1], SIZE[0], 3), index, np.uint8)
            cv2.imwrite(str(folder / f'{index + 1:08d}.jpg'), image)
        np.savetxt(folder / 'groundtruth.txt', truth[:count], fmt='%.4f', delimiter=',')
        cover = np.full(count, 8)
        cover[5:8] = 0
        np.savetxt(folder / 'cover.label', cover, fmt='%d')
        for label in ('absence', 'cut_by_image'):
            np.savetxt(folder / f'{label}.label', cover == 0, fmt='%d')
        (folder / 'meta_info.ini').write_text(f'[METAINFO]\nresolution: {SIZE}\n')
    (root / 'val' / 'list.txt').write_text('\n'.join(names) + '\n')


def test_the_got10k_toolkit_reads_our_files_and_finds_our_scores(oracles, tmp_path):
    from got10k.experiments import ExperimentGOT10k

    got10k_validation(tmp_path / 'data')
    data = read_dataset(tmp_path / 'data', [])
    assert data.benchmark == 'got10k'
    runs = [
        Run('ours', each, predicted[: len(each)], np.ones(len(each)), np.full(len(each), 0.01))
        for each, (predicted, _) in zip(data.sequences, SEQUENCES, strict=False)
    ]
    folder = tmp_path / 'results' / 'GOT-10k'
    write_submissions(folder, runs, data.benchmark, data.origin)
    toolkit = ExperimentGOT10k(
        str(tmp_path / 'data'), 'val', str(tmp_path / 'results'), str(tmp_path / 'reports')
    )
    theirs = toolkit.report(['ours'])['ours']['overall']
    ours = mean_scores_of(runs)
    assert (theirs['ao'], theirs['sr']) == pytest.approx((ours.ao, ours.sr50), abs=EQUAL)
    assert theirs['speed_fps'] == pytest.approx(100.0)


def test_overlaps_are_those_of_the_vot_toolkit(oracles):
    from vot.region import Rectangle, calculate_overlaps

    # The toolkit draws boxes as pixels and cuts them at 0: equal are those between whole pixels.
    inside = np.array([500.0, 500.0, 0.0, 0.0])
    for predicted, truth in SEQUENCES:
        ours, true = np.rint(predicted + inside), np.rint(truth + inside)
        theirs = calculate_overlaps(
            [Rectangle(*box) for box in ours], [Rectangle(*box) for box in true], None
        )
        assert metrics.overlaps(ours, true) == pytest.approx(theirs, abs=EQUAL)

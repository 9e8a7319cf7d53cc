# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What papers print about their trackers: the file, its errors, and where it is drawn."""

import re

import pytest
import yaml
from test_page import Links, runs

from tracker_ros.evaluation.comparison import Comparison
from tracker_ros.evaluation.page import page
from tracker_ros.evaluation.published_scores import (
    OF_VOT,
    PublishedScoresError,
    read_published_scores,
)
from tracker_ros.runtime import store

SMALL = {
    'benchmarks': {
        'lasot': {'title': 'LaSOT', 'set': 'test', 'sequences': 1},
        'got10k': {'title': 'GOT-10k', 'set': 'test', 'withheld': True},
    },
    'papers': {'paper': {'title': 'A <paper>', 'venue': 'V 2023'}},
    'trackers': [
        {
            'name': 'Good <one>',
            'paper': 'paper',
            'model': 'good',
            'speeds': [{'rate_hz': 50, 'hardware': 'GPU', 'section': '4'}],
            'results': [
                {
                    'benchmark': 'lasot',
                    'table': 3,
                    'section': '4.2',
                    'auc': 70.6,
                    'precision': 76.2,
                    'normalised_precision': 80,
                },
                {'benchmark': 'got10k', 'figure': 5, 'section': '4', 'ao': 60, 'sr50': 70},
            ],
        }
    ],
}


def written(tmp_path, change=None):
    """SMALL as a file. change: is given a copy to spoil."""
    content = yaml.safe_load(yaml.safe_dump(SMALL, sort_keys=False))
    if change is not None:
        change(content)
    path = tmp_path / 'published.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def result(content):
    return content['trackers'][0]['results'][0]


def test_the_file_of_the_package_has_all_five_papers():
    published = read_published_scores()
    assert {each.paper.name for each in published.trackers} == {
        'mixformerv2',
        'simtrack',
        'vlt',
        'siamattn',
        'dualtfr',
    }
    models = [each.model for each in published.trackers if each.model]
    assert len(models) == len(set(models)) == 7
    assert set(models) <= set(store.names())


def test_every_number_stands_in_its_paper(shared):
    found = 0
    for tracker in read_published_scores().trackers:
        text = (shared / 'papers' / f'{tracker.paper.name}.txt').read_text(encoding='utf-8')
        # A gap may stand within a number of a table.
        printed = set(re.findall(r'\d+(?:\.\d+)?', re.sub(r'\b0\.\s+(?=\d{3})', '0.', text)))
        for each in tracker.results:
            for name, share in each.scores.items():
                per_cent = share * 100
                forms = {f'{share:.3f}', f'{share:.2f}'}
                if name not in OF_VOT:
                    forms = {f'{per_cent:.1f}', f'{per_cent:g}', f'{share:.3f}'}
                assert forms & printed, f'{tracker.name} on {each.benchmark.name}: {name} {share}'
                found += 1
        for speed in tracker.speeds:
            assert f'{speed.rate_hz:g}' in printed
    assert found > 150


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda all: result(all).update(auc=706), 'results 1 (lasot): auc must be between 0 and'),
        (lambda all: result(all).update(auc='70.6'), "auc must be a number, not '70.6'"),
        (lambda all: result(all).update(auc=float('nan')), 'auc must be between 0 and 100'),
        (lambda all: result(all).update(eao=True), 'eao must be a number, not True'),
        (lambda all: result(all).update(auk=70.6), "unknown key 'auk'; there are benchmark"),
        (lambda all: result(all).pop('section'), 'section must be a text, not None'),
        (lambda all: result(all).update(benchmark='x'), 'must be one of lasot, got10k, not'),
        (lambda all: result(all).update(table='three'), "table must be a number, not 'three'"),
        (
            lambda all: (
                [result(all).pop(name) for name in ('auc', 'precision')]
                + [result(all).pop('normalised_precision')]
            ),
            'scores must be at least one of auc',
        ),
        (
            lambda all: all['trackers'][0]['results'].append(dict(result(all))),
            'results 3 (lasot): auc must be given once for each benchmark, not 70.6',
        ),
        (lambda all: all['trackers'].append(all['trackers'][0]), 'trackers 2 (Good <one>): name'),
        (lambda all: all['trackers'][0].update(paper='y'), 'paper must be one of paper, not'),
        (lambda all: all['trackers'][0].update(results=[]), 'a list with at least one result'),
        (lambda all: all['trackers'][0].update(results=7), 'results must be a list, not 7'),
        (lambda all: all['trackers'].append('text'), "trackers 2 (): must be a mapping, not 't"),
        (
            lambda all: all['benchmarks']['lasot'].update(withheld='no'),
            "benchmarks.lasot: withheld must be true or false, not 'no'",
        ),
        (lambda all: all['papers'].update(other=None), 'papers.other: must be a mapping'),
        (lambda all: all.pop('papers'), 'papers: must be a mapping, not None'),
    ],
)
def test_an_entry_that_is_wrong_is_named(tmp_path, change, words):
    path = written(tmp_path, change)
    with pytest.raises(PublishedScoresError, match=re.escape(words)) as error:
        read_published_scores(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('text', ['a: [', '7', '- 1'])
def test_a_file_that_is_something_else_is_named(tmp_path, text):
    path = tmp_path / 'published.yaml'
    path.write_text(text)
    with pytest.raises(PublishedScoresError, match=re.escape(str(path))):
        read_published_scores(path)
    with pytest.raises(PublishedScoresError, match='cannot be read'):
        read_published_scores(tmp_path / 'none.yaml')


def drawn(tmp_path, benchmark, sequences, change=None):
    published = read_published_scores(written(tmp_path, change))
    return page('data', runs(tmp_path), [], (), Comparison(published, benchmark, sequences))


def test_scores_on_the_same_benchmark_are_in_every_plot_that_compares(tmp_path):
    text = drawn(tmp_path, 'lasot', 1)
    success, precision, normalised, speed, _ = re.findall(r'<svg.*?</svg>', text, re.DOTALL)
    assert 'AUC 0.706, published in table 3, section 4.2' in success
    assert 'P@20 0.762' in precision
    assert 'NP 0.800' in normalised
    assert 'on GPU, published' in speed
    assert 'opacity="0.55"' not in text
    assert 'Not on the same data' not in text
    found = Links(text)
    assert '#published-a' in found.links
    assert all(link[1:] in found.anchors for link in found.links)
    # The model of the same name has the same colour.
    assert re.search(r'published[^<]*</title><path[^>]*stroke="#1f6fb4"', success)


def test_names_from_the_file_stay_texts(tmp_path):
    text = drawn(tmp_path, 'lasot', 1)
    assert 'Good &lt;one&gt;' in text
    assert 'A &lt;paper&gt;' in text
    assert '<one>' not in text


@pytest.mark.parametrize(
    ('benchmark', 'sequences', 'why'),
    [
        ('lasot', 2, 'over 1 sequences, here there are 2'),
        ('got10k', 1, 'whose truth only the server of GOT-10k knows'),
    ],
)
def test_scores_on_another_set_are_marked_as_that(tmp_path, benchmark, sequences, why):
    text = drawn(tmp_path, benchmark, sequences)
    assert 'opacity="0.55"' in text
    assert 'Not on the same data: ' in text
    assert why in text


def test_a_point_of_the_success_curve_is_where_its_threshold_is(tmp_path):
    marks = Comparison(read_published_scores(written(tmp_path)), 'got10k', 1).marks('success', {})
    assert [(mark.x, round(mark.y, 3)) for mark in marks] == [(None, 0.6), (0.5, 0.7)]


def test_scores_on_other_benchmarks_are_listed_and_not_drawn(tmp_path):
    text = drawn(tmp_path, 'plain', 1)
    charts, listed = text.split('<h2 id="published">')
    assert 'No <a href="#published">published scores</a> are drawn' in charts
    assert 'class="mark"' not in charts
    assert '2 published results on other data: not comparable' in listed
    assert 'LaSOT (test)' in listed
    assert '0.706' in listed

# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of VLT, and of the supernet that its architecture is searched in.

Stage 1 of the paper's appendix A.3 trains the supernet, each step along random paths; stage 2
is `search`; stage 3 trains what was found, again from the weights of the pretrained supernet.
Images enter in the way of the variant: BGR in 0..255 for VLT_SCAR, RGB and normalised for VLT_TT.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker_ros.networks import vlt
from tracker_ros.networks.moda_mixer import EMBEDDING, MixedBackbone, Paths
from tracker_ros.networks.shuffle_supernet import CANDIDATES, Stages
from tracker_ros.training import losses, vlt_losses
from tracker_ros.training.architecture import lengths_of, read_architecture
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.evolution import Genome, Plan, Space
from tracker_ros.training.families import (
    Family,
    Group,
    check_crops,
    checked_variant,
    normalised,
)
from tracker_ros.training.progress import Progress, log_rate_at, rate_at
from tracker_ros.training.proposals import (
    anchor_boxes,
    corrected,
    corrections_by_anchor,
    logits_by_anchor,
)
from tracker_ros.training.recipe import Recipe, RecipeError
from tracker_ros.training.sentences import Sentences

Network = vlt.VltScar | vlt.VltTt | vlt.VltRpn

PUBLISHED, SUPERNET = 'published', 'supernet'
_WITHOUT = ('template', 'zero')

_SMALL = vlt.Variant(
    template_px=32,
    search_px=64,
    paths=Paths((0,) * 8, (0,) * 8, (0,) * 4, (0,) * 4),
    stages=Stages(stem=8, layers=(2, 2, 2, 2), channels=(16, 24, 32, 48)),
    dim=32,
    kernel_cells=1,
    fusion=(1, 64),
    resizes=False,
)
VARIANTS: dict[str, tuple[type[Network], vlt.Variant]] = {
    'scar': (vlt.VltScar, vlt.VARIANTS['scar']),
    'tt': (vlt.VltTt, vlt.VARIANTS['tt']),
    'rpn': (vlt.VltRpn, vlt.VARIANTS['rpn']),
    'scar_small': (vlt.VltScar, _SMALL),
    'tt_small': (vlt.VltTt, _SMALL),
}
"""Network and sizes by name. The small ones are ours, for trying things out."""

_WEIGHTS = {
    vlt.VltScar: {'scores': 1.0, 'overlap': 3.0, 'centres': 1.0},
    vlt.VltTt: {'scores': 2.0, 'corners': 3.0, 'overlap': 1.0},
    vlt.VltRpn: {'scores': 1.0, 'corrections': 1.2},
}
_ANCHOR_RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)
_PRETRAINED = ('first_conv.', 'features.')


@dataclass(frozen=True)
class Options:
    architecture: str = PUBLISHED
    """`published`: that of the paper. `supernet`: all candidates, a random path for each step.
    Otherwise a file that `tracker_ros search` wrote."""
    language_model: str = 'bert_base_uncased'
    """A package of the family language, or `words`, which needs none: see `sentences`."""
    without_sentence: str = 'template'
    """What stands in where nothing is said: the target's own features, or zeros (table 5c)."""
    sentence_dropped: float = 0.0
    """How likely a sentence is left out, so that the network learns to do without."""
    weights: dict[str, float] = field(default_factory=dict)
    """What the parts of the loss count; empty: as the variant's official training has them."""
    box_loss: str = 'ciou'
    """Of VLT_SCAR: `ciou` as in the released code, or `iou` as in SiamCAR's paper."""
    anchor_scale: int = 8
    """Of VLT_RPN++: the side of a square anchor, in cells; trackers have 8."""
    backbone_rate: float = 0.1
    """The learning rate of stem and layers, times that of all the rest."""
    schedule: str = 'steps'
    """`steps`: as in `Steps`. `log`: evenly in the logarithm, up to the rate within the warm-up
    and down to the final rate at the end of the run."""
    warmup_from: float = 0.2
    """Where the warm-up of `log` begins, in parts of the rate."""
    search: Plan = field(default_factory=Plan)
    norm_batches: int = 50
    """Of a search: how many batches the means of the norms are taken from, for each candidate."""
    largest_gmacs: float = 0.0
    """Of a search: the most work of the backbone on a search image; 0: no limit."""


class Training(Family):
    options_kind = Options

    def __init__(self, recipe: Recipe) -> None:
        try:
            super().__init__(recipe)
        except ValueError as error:
            raise RecipeError(f'{recipe.name}: options: {error}') from error
        options: Options = self.options
        for name, known in (
            ('without_sentence', _WITHOUT),
            ('box_loss', vlt_losses.BOX_LOSSES),
            ('schedule', ('steps', 'log')),
        ):
            value = getattr(options, name)
            if value not in known:
                raise RecipeError(
                    f'{recipe.name}: options: {name} must be one of {", ".join(known)}, not '
                    f'{value!r}'
                )
        if not 0.0 <= options.sentence_dropped <= 1.0:
            raise RecipeError(
                f'{recipe.name}: options: sentence_dropped must be from 0 to 1, not '
                f'{options.sentence_dropped}'
            )
        if options.norm_batches < 1:
            raise RecipeError(
                f'{recipe.name}: options: norm_batches must be 1 or more, not '
                f'{options.norm_batches}'
            )
        self.kind, self.variant = self._variant()
        self.weights = options.weights or _WEIGHTS[self.kind]
        if self.weights.keys() != _WEIGHTS[self.kind].keys():
            raise RecipeError(
                f'{recipe.name}: options: weights must be of {", ".join(_WEIGHTS[self.kind])}, '
                f'not of {", ".join(self.weights)}'
            )
        self.sentences = Sentences(options.language_model)

    def _variant(self) -> tuple[type[Network], vlt.Variant]:
        recipe = self.recipe
        kind, variant = checked_variant(recipe, VARIANTS)
        check_crops(recipe, variant.template_px, variant.search_px, 1)
        if not self.is_supernet and self.options.architecture != PUBLISHED:
            paths = read_architecture(Path(self.options.architecture), variant.stages)
            variant = dataclasses.replace(variant, paths=paths)
        return kind, variant

    @property
    def is_supernet(self) -> bool:
        return bool(self.options.architecture == SUPERNET)

    @property
    def space(self) -> Space:
        """What architectures there are."""
        return Space(lengths_of(self.variant.stages), CANDIDATES)

    def network(self) -> Network:
        return self.kind(self.variant, whole=self.is_supernet)

    def groups(self, network: Any) -> list[Group]:
        """Stem and layers, which were pretrained, learn more slowly than the rest.

        The classifier of their pretraining is in the supernet, and not trained.
        """
        body = body_of(network)
        pretrained = [*body.first_conv.parameters(), *body.features.parameters()]
        known = {id(each) for each in pretrained}
        if self.is_supernet:
            unused = (body.conv_last, body.classifier)
            known.update(id(each) for module in unused for each in module.parameters())
        others = [each for each in network.parameters() if id(each) not in known]
        return [Group(pretrained, self.options.backbone_rate), Group(others)]

    def rate(self, progress: Progress) -> float:
        options: Options = self.options
        if options.schedule == 'steps':
            return rate_at(self.recipe, progress)
        return log_rate_at(self.recipe, progress, options.warmup_from * self.recipe.steps.rate)

    def begin_with(self, network: Any, tensors: Mapping[str, Tensor]) -> None:
        """Weights of such a network, of its supernet, or of the pretrained supernet of SPOS.

        The latter has no mixers: those begin with what the last layer of their stage has
        (appendix A.3), and all that follows the backbone begins at random.
        """
        if any(name.startswith(_PRETRAINED) for name in tensors):
            tensors = self._with_mixers(network, tensors)
        own = network.state_dict()
        kept = {name: value for name, value in tensors.items() if name in own}
        # The paths are those of the recipe.
        kept.update({name: own[name] for name in own if name.endswith('.architecture')})
        missing = sorted(own.keys() - kept.keys())
        if missing:
            raise TrainingError(f'{len(missing)} tensors are missing: {", ".join(missing[:8])}')
        network.load_state_dict(kept)

    def _with_mixers(self, network: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        body = body_of(network)
        (prefix,) = {
            name.partition('first_conv.')[0]
            for name in network.state_dict()
            if 'first_conv.' in name
        }
        filled: dict[str, Tensor] = dict(network.state_dict())
        filled.update({prefix + name: value for name, value in tensors.items()})
        for stage, end in enumerate(body.stages.ends):
            for name, value in tensors.items():
                if name.startswith(f'features.{end - 1}.'):
                    rest = name.removeprefix(f'features.{end - 1}.')
                    filled[f'{prefix}nlp_layers.{stage}.{rest}'] = value
        return filled

    def loss(
        self, network: Any, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `vlt_losses`. The supernet goes another way in each step."""
        if self.is_supernet:
            self.take(network, self.random_genome(progress))
        output = self.run(network, batch, self._heard(batch, progress))
        side = self.variant.search_px
        if isinstance(output, vlt.ScarOutput):
            parts = vlt_losses.scar_parts(output, batch.truth, side, self.options.box_loss)
        elif isinstance(output, vlt.RpnOutput):
            random = torch.Generator()
            # By the sample, so that a run that goes on draws what it would have drawn.
            random.manual_seed((self.recipe.seed << 40) + progress.samples)
            anchors = self._anchors(output)
            parts = vlt_losses.rpn_parts(output, batch.truth, side, anchors, random)
        else:
            parts = vlt_losses.tt_parts(output, batch.truth)
        total = torch.stack([weight * parts[name] for name, weight in self.weights.items()]).sum()
        return total, parts

    def random_genome(self, progress: Progress) -> Genome:
        """The paths of a step, all equally likely (equation 2)."""
        return self.space.random(np.random.default_rng([self.recipe.seed, progress.step]))

    def take(self, network: Any, genome: Genome) -> None:
        """Let the supernet go these ways."""
        body_of(network).paths = Paths(*genome)

    def run(self, network: Any, batch: Batch, sentences: Sequence[str] | None = None) -> Any:
        """What the network says of a batch; `sentences` instead of those of the batch."""
        device = batch.search.device
        heard = batch.sentences if sentences is None else sentences
        embedding, by_language = self._embedded(heard, device)
        with self.autocast(device):
            return network(
                self.pixels(batch.templates[:, 0]),
                self.template_corners(batch.template_boxes[:, 0]),
                embedding,
                self.pixels(batch.search),
                by_language,
            )

    def _heard(self, batch: Batch, progress: Progress) -> list[str]:
        """The sentences of a batch; those that are dropped are empty."""
        random = np.random.default_rng([self.recipe.seed, progress.samples, 1])
        dropped = random.random(len(batch.sentences)) < self.options.sentence_dropped
        return [
            '' if is_dropped else sentence
            for sentence, is_dropped in zip(batch.sentences, dropped, strict=True)
        ]

    def _embedded(
        self, sentences: Sequence[str], device: torch.device
    ) -> tuple[Tensor | None, Tensor | None]:
        """Embeddings (B, 768) and which to go by (B, 1), for the network.

        Where only some are told, the others pass through the norms of `token_map` as zeros, as
        in the official training.
        """
        embedding, by_language = self.sentences(sentences)
        if self.options.without_sentence == 'zero':
            return embedding.to(device), None
        if not bool(by_language.any()):
            return None, None
        return embedding.to(device), by_language.to(device)

    def predict(
        self, network: Any, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The box of the best cell, and the logit of its score. Nothing is said of targets."""
        embedding = None
        if self.options.without_sentence == 'zero':
            embedding = torch.zeros(len(search), EMBEDDING, device=search.device)
        output = network(
            self.pixels(templates[:, 0]),
            self.template_corners(boxes[:, 0]),
            embedding,
            self.pixels(search),
        )
        side = self.variant.search_px
        if isinstance(output, vlt.RpnOutput):
            margin = logits_by_anchor(output.scores).diff(dim=-1)[..., 0]
            boxes = corrected(self._anchors(output), corrections_by_anchor(output.offsets))
            found = boxes / side + boxes.new_tensor([0.5, 0.5, 0.0, 0.0])
        elif isinstance(output, vlt.ScarOutput):
            margin = (output.scores[:, 1] - output.scores[:, 0]).flatten(1)
            places = vlt_losses.cell_places(int(output.scores.shape[-1]), side).to(search.device)
            corners = vlt_losses.boxes_of(output.offsets, places).flatten(1, 2) / side
            found = losses.centred(corners)
        else:
            margin, found = output.scores[..., 0] - output.scores[..., 1], output.boxes
        best = margin.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return found[rows, best], margin[rows, best]

    def _anchors(self, output: vlt.RpnOutput) -> Tensor:
        """(N, 4) cx, cy, w, h, in pixels from the middle of the search crop."""
        cells = int(output.scores.shape[-1])
        anchors = anchor_boxes(_ANCHOR_RATIOS, cells, vlt.STRIDE, self.options.anchor_scale)
        return anchors.to(output.scores.device)

    def pixels(self, crops: Tensor) -> Tensor:
        """Crops (B, 3, S, S) BGR in 0..255 as the network takes them."""
        return normalised(crops) if self.kind is vlt.VltTt else crops.float()

    def template_corners(self, boxes: Tensor) -> Tensor:
        """Boxes (B, 4) cx, cy, w, h in parts of the template crop as corners in its pixels."""
        return losses.corners_of(boxes) * self.variant.template_px


def body_of(network: Any) -> MixedBackbone:
    """The backbone of a network, also of one that is wrapped for several processes."""
    inner = getattr(network, 'module', network)
    body = inner.body
    assert isinstance(body, MixedBackbone)
    return body

"""Whole checkpoints: find their source by the keys, convert the backbone, rename the heads."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from spm_mm.compat import check_state_dict, not_finite
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    converters,
    get_converter,
)
from spm_mm.converters.heads import convert_heads, is_head
from spm_mm.converters.read import Weights
from spm_mm.errors import UserError
from spm_mm.registry import MODELS

STRANGERS = {
    r'(^|\.)ctm[12]\.': (
        'TCFormer',
        'its blocks read the tokens before they are merged, which no merging of this suite does',
    ),
    r'\.logit_scale$|\.cpb_mlp\.': (
        'Swin Transformer V2',
        'its attention compares by the cosine, and its norms stand behind the layers',
    ),
    r'(^|\.)pos_block\.': (
        'Twins',
        'its positions come from a convolution behind the first block of a stage',
    ),
    r'^dinat\.': ('DiNAT', 'its neighborhoods are dilated'),
}
"""Networks that are near to ours and not among them, by what only their keys have, and what they do
that no model of this suite does."""


UNFIT = (ValueError, KeyError, IndexError, TypeError, RuntimeError)
"""What keys and shapes of another network lead to."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint under our names."""

    source: str
    conversion: Conversion
    found: str
    """What it is, in words."""
    note: str = ''
    """What a config must say to load it."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, nothing unknown, and every number finite."""
        found = self.conversion
        return not (found.missing or found.unexpected or found.broken)


def convert_checkpoint(
    weights: Weights, source: str | None = None, ema: bool | None = None
) -> Converted:
    """Convert a classifier, a backbone or a whole detector or segmentor of any known source.

    Args:
        weights: What :func:`~spm_mm.converters.read.read_checkpoint` found.
        source: Name of the source; None to find it by the keys.
        ema: True for averaged, False for raw weights; None for those that there are. Where there are
            both, None takes the raw ones, but for SG-Former, whose evaluation takes the averaged ones.

    Raises:
        UserError: If the source is not known or not told from its relatives, or the weights that
            ``ema`` asks for are not there.
    """
    tensors, which = weights.choose(ema)
    numbers = {k: v.dtype for k, v in tensors.items() if k.endswith('.weight')}
    if whole := [key for key, dtype in numbers.items() if not dtype.is_floating_point]:
        raise UserError(
            f'{weights.path}: {len(whole)} weights are no real floating point numbers, first'
            f' {whole[0]} ({numbers[whole[0]]}): a quantized checkpoint cannot be converted'
        )
    converter, model, prefix = _find(tensors, source)
    if ema is None and converter.averaged:
        tensors, which = weights.choose(None, prefer_averaged=True)
    if doubt := converter.doubt(weights.clues, named=source is not None):
        raise UserError(f'{weights.path}: {doubt}')
    _check_settings(weights.settings, model.get_submodule('backbone'), weights.path)
    parts, rest = _split(tensors, prefix)
    conversion = _restore(converter.convert({k: v for k, (_, v) in parts.items()}, model), parts)
    heads = convert_heads(rest)
    conversion = dataclasses.replace(
        conversion,
        state_dict=conversion.state_dict | heads.state_dict,
        names=conversion.names | heads.names,
        reshaped=conversion.reshaped | heads.reshaped,
        dropped=conversion.dropped | heads.dropped,
        unexpected=[*conversion.unexpected, *heads.unexpected],
        broken=[*conversion.broken, *not_finite(heads.state_dict)],
    )
    found = f'{_describe(model, heads.state_dict)} of {converter.description}; {which}'
    return Converted(converter.source, conversion, found, heads.note)


def _split(
    weights: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, tuple[str, Tensor]], dict[str, Tensor]]:
    """The backbone's tensors, by their names in it, with the official names; and all others."""
    rest = {key: value for key, value in weights.items() if is_head(key, prefix == 'backbone.')}
    parts = {k.removeprefix(prefix): (k, v) for k, v in weights.items() if k not in rest}
    if prefix == 'backbone.':  # a classifier of MMPretrain around an official backbone
        parts = {re.sub(r'^head\.fc\.', 'head.', name): entry for name, entry in parts.items()}
    return parts, rest


def _prefixes(weights: Mapping[str, Tensor]) -> list[str]:
    """What may stand before the keys of the backbone."""
    if any(key.startswith('backbone.') for key in weights):
        return ['backbone.']
    # Of a pre-training, or of Hugging Face transformers, where it is a part of the name.
    return ['', 'encoder.'] if any(key.startswith('encoder.') for key in weights) else ['']


def _find(weights: Mapping[str, Tensor], source: str | None) -> tuple[Converter, nn.Module, str]:
    """The converter that knows the weights best, our model, and what stands before the keys."""
    # First, so that a broken installation is not taken for weights that do not fit.
    MODELS.import_from_location()
    candidates = [get_converter(source)] if source else converters.values()
    found, reasons = [], []
    for prefix in _prefixes(weights):
        parts, _ = _split(weights, prefix)
        shapes = {key: value.to('meta') for key, (_, value) in parts.items()}
        for converter in candidates:
            try:
                with torch.device('meta'):
                    model = converter.model_for(shapes)
                    conversion = converter.convert(shapes, model)
            except UNFIT as error:
                reasons.append(error)
                continue
            open_keys = len(conversion.missing) + len(conversion.unexpected)
            if source or 2 * len(conversion.unexpected) < len(shapes):
                found.append((open_keys, converter, model, prefix))
    least = min((entry[0] for entry in found), default=None)
    if least != 0 and not source and (stranger := _stranger(weights)):
        name, why = stranger
        raise UserError(f'these weights are of {name}, which this suite does not have: {why}')
    if not found:
        if source:
            raise UserError(str(reasons[0])) from reasons[0]
        raise UserError(
            f'no source knows these weights; their first keys are'
            f' {list(weights)[:3]}. Sources are {", ".join(converters)}: --source NAME tells what keeps'
            ' them from being of that one'
        )
    best = [entry for entry in found if entry[0] == least]
    if len(best) > 1 and least == 0:
        names = ', '.join(entry[1].source for entry in best)
        raise UserError(f'the weights fit several sources, {names}: choose one with --source')
    return best[0][1:]


def _stranger(weights: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The network of :data:`STRANGERS` that the keys are of, and what sets it apart."""
    for pattern, network in STRANGERS.items():
        if any(re.search(pattern, key) for key in weights):
            return network
    return None


def _check_settings(settings: Mapping[str, Any], backbone: nn.Module, path: Path) -> None:
    """Refuse a model of transformers that differs in what shapes do not tell."""
    inner = settings.get('backbone_config')
    settings = inner if isinstance(inner, Mapping) else settings
    heads = settings.get('num_attention_heads', settings.get('num_heads'))
    differing = [
        f'{key}={got!r}, the model here has {ours!r}'
        for key, got, ours in (
            ('number of heads', heads, list(backbone.arch['num_heads'])),
            ('hidden_act', settings.get('hidden_act'), 'gelu'),
        )
        if got is not None and got != ours
    ]
    if differing:
        raise UserError(f'{path}: config.json has {"; ".join(differing)}')


def _restore(conversion: Conversion, parts: Mapping[str, tuple[str, Tensor]]) -> Conversion:
    """The same conversion with the official names as they are in the file."""

    def official(key: str) -> str:
        key, arrow, ours = key.partition(' -> ')
        return (parts[key][0] if key in parts else key) + arrow + ours

    return dataclasses.replace(
        conversion,
        names={official(key): ours for key, ours in conversion.names.items()},
        reshaped={official(key): ours for key, ours in conversion.reshaped.items()},
        dropped={official(key): reason for key, reason in conversion.dropped.items()},
        unexpected=[official(key) for key in conversion.unexpected],
        differing={official(key): how for key, how in conversion.differing.items()},
    )


def _describe(model: nn.Module, heads: Mapping[str, Tensor]) -> str:
    backbone = model.get_submodule('backbone')
    archs = [name for name, arch in backbone.arch_settings.items() if dict(arch) == backbone.arch]
    text = f'{type(backbone).__name__} {" or ".join(map(repr, archs))}'
    if isinstance(model, Classifier):
        return f'{text}, classifier of {model.head["fc"].out_features} classes'
    if heads:
        return f'{text} with {", ".join(sorted({key.split(".")[0] for key in heads}))}'
    return f'{text}, backbone'


def fit_to_model(
    weights: dict[str, Tensor], model: nn.Module, drop_heads: bool = False
) -> list[str]:
    """Make sure that a model loads the weights strictly.

    Args:
        weights: Under our names. Layers that classify are taken out of it if ``drop_heads``.
        model: What a config builds.
        drop_heads: Whether layers with another number of classes are left out, so that they start
            anew, and not refused.

    Returns:
        The keys taken out.

    Raises:
        UserError: If a key is unknown, missing or of another shape.
    """
    own = model.state_dict()
    classes = [
        key
        for key, value in weights.items()
        if key in own
        and not key.startswith('backbone.')
        and own[key].shape != value.shape
        and own[key].shape[1:] == value.shape[1:]
    ]
    if classes and not drop_heads:
        first = classes[0]
        raise UserError(
            f'{len(classes)} layers have another number of classes than the config, first {first}:'
            f' {len(weights[first])} rows, the config has {len(own[first])}; set num_classes in the'
            ' config, or leave these layers out with --drop-heads'
        )
    for key in classes:
        del weights[key]
    missing = check_state_dict(model, weights, 'converted')
    missing = [key for key in missing if key not in classes and not _is_constant(key)]
    if missing:
        raise UserError(
            f'the config has {len(missing)} entries that the checkpoint lacks, first'
            f' {", ".join(missing[:3])}'
        )
    return classes


def _is_constant(key: str) -> bool:
    return bool(re.match(r'data_preprocessor\.', key))


def write_weights(weights: Mapping[str, Tensor], path: Path, source: str) -> None:
    """Write converted weights, whole or not at all.

    Args:
        weights: Under our names.
        path: ``.safetensors``, or else a file of torch with the entries ``state_dict`` and ``meta``.
        source: Name of the source, which the file then says.

    Raises:
        UserError: If the file cannot be written.
    """
    # Clones: some are views of one tensor, of which a file would hold all.
    whole = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    partial = path.with_name(f'{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.safetensors':
            save_file(whole, partial, metadata={'format': 'pt', 'source': source})
        else:
            torch.save({'state_dict': whole, 'meta': {'source': source}}, partial)
        os.replace(partial, path)
    # A full disk is another error in each of the two libraries.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f'{path} cannot be written: {error}') from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)

"""Features of any network, read from modules that a configuration names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from einops import EinopsError, rearrange
from torch import nn

from espnet2_tfckd.distiller.abs_distiller import FEATURE_SETS, FeatureSets

_LAYOUT = "b c t f"


@dataclass(frozen=True)
class TappedLayer:
    """Where to find a layer's feature, and how to bring it to (B, C, T, F).

    Attributes:
        path: Module within the separator, whose output is the feature. If it has several outputs,
            the first is taken. The real and imaginary parts of a complex output are stacked on the
            channel axis.
        rearrange: einops pattern that ends in ``b c t f``, such as ``(b f) t c -> b c t f``. The
            size of b is known, so b may be part of an axis. Write 1 on the right for a missing
            axis.
        skip_frames: Frames to drop at the beginning, if a layer has more than the spectrum.
    """

    path: str
    rearrange: str = f"{_LAYOUT} -> {_LAYOUT}"
    skip_frames: int = 0

    def normalise(self, output, batch: int) -> torch.Tensor:
        """Bring the module's output to (B, C, T, F).

        Raises:
            ValueError: If the output's axes do not match the pattern.
        """
        while isinstance(output, (tuple, list)):
            output = output[0]
        try:
            if not isinstance(output, torch.Tensor) or torch.is_complex(output):
                real, imaginary = (self._arranged(x, batch) for x in (output.real, output.imag))
                feature = torch.cat([real, imaginary], 1)
            else:
                feature = self._arranged(output, batch)
        except EinopsError as error:
            raise ValueError(
                f"the output of {self.path} has the shape {tuple(output.shape)} and does not fit "
                f"rearrange: '{self.rearrange}' ({str(error).strip().splitlines()[-1].strip()})"
            ) from error
        return feature[:, :, self.skip_frames :]

    def _arranged(self, tensor: torch.Tensor, batch: int) -> torch.Tensor:
        return rearrange(tensor, self.rearrange, b=batch)


class FeatureTap:
    """Reads feature sets from a separator that does not hand them out itself.

    Args:
        layers: For each of ``encoder``, ``bottleneck`` and ``decoder``, the layers in the order in
            which the signal passes them: a module's path, or a mapping with the fields of
            :class:`TappedLayer`.
        separator: The network. No reference to it is kept.
        option: Name of the configuration's option, for errors.

    Raises:
        ValueError: If a set is missing or empty, a field is unknown, or a module does not exist.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1))
        >>> tap = FeatureTap({"encoder": ["0"], "bottleneck": ["1"], "decoder": ["2"]}, network)
        >>> with tap.record(network, batch=4) as features:
        ...     output = network(torch.zeros(4, 1, 10, 5))
        >>> features["bottleneck"][0].shape
        torch.Size([4, 3, 10, 5])
    """

    def __init__(
        self,
        layers: Mapping[str, Sequence[str | Mapping]],
        separator: nn.Module,
        option: str = "features",
    ):
        if set(layers) != set(FEATURE_SETS) or not all(layers.values()):
            raise ValueError(
                f"{option} must name layers for each of {', '.join(FEATURE_SETS)}; it has "
                f"{', '.join(layers) or 'nothing'}"
            )
        self.option = option
        self.layers = {
            name: [self._layer(entry) for entry in layers[name]] for name in FEATURE_SETS
        }
        paths = [path for path, _ in separator.named_modules() if path]
        for layer in (layer for layers in self.layers.values() for layer in layers):
            if layer.path not in paths:
                raise ValueError(_unknown_path(option, layer.path, separator, paths))

    def _layer(self, entry: str | Mapping) -> TappedLayer:
        fields = {"path": entry} if isinstance(entry, str) else dict(entry)
        try:
            layer = TappedLayer(**fields)
        except TypeError as error:
            raise ValueError(
                f"{self.option}: a layer is a path or has the fields path, rearrange and "
                f"skip_frames, not {fields}"
            ) from error
        if not re.fullmatch(r".*->\s*b (c|1|\([^()]*\)) t (f|1|\([^()]*\))\s*", layer.rearrange):
            raise ValueError(
                f"{self.option}: rearrange of {layer.path} must end in '-> {_LAYOUT}' (c and f may "
                f"be 1 or made of several axes), but is '{layer.rearrange}'"
            )
        return layer

    @contextmanager
    def record(self, separator: nn.Module, batch: int) -> Iterator[FeatureSets]:
        """Record the features that the network computes in the block.

        Args:
            separator: The network.
            batch: Utterances of the batch.

        Yields:
            The feature sets, each feature (B, C, T, F); filled when the block ends.

        Raises:
            ValueError: If a module was not called, or its output does not fit its pattern.
        """
        outputs: dict[str, object] = {}
        features: FeatureSets = {}
        every = [layer for layers in self.layers.values() for layer in layers]

        def keep(path: str):
            def hook(module, inputs, output):
                outputs[path] = output

            return hook

        hooks = [
            separator.get_submodule(path).register_forward_hook(keep(path))
            for path in {layer.path for layer in every}
        ]
        try:
            yield features
        finally:
            for hook in hooks:
                hook.remove()
        for layer in every:
            if layer.path not in outputs:
                raise ValueError(
                    f"{self.option}: the network did not call its module {layer.path} as a whole; "
                    "name a module within it or around it"
                )
        for name, layers in self.layers.items():
            features[name] = [layer.normalise(outputs[layer.path], batch) for layer in layers]


def _unknown_path(option: str, path: str, separator: nn.Module, paths: list[str]) -> str:
    near = get_close_matches(path, paths, n=3, cutoff=0.5)
    return (
        f"{option}: {type(separator).__name__} has no module '{path}'"
        + (f" (did you mean {' or '.join(near)}?)" if near else "")
        + "; it has:\n  "
        + "\n  ".join(paths)
    )

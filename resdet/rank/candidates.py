"""What `--backbones` names: run folders, files and addresses of weights, and random twins.

    SOURCE                 a run folder of pretrain_cls, a file of weights, or its address
    random:SOURCE          the net of that source with random weights; or of a net's name
    LABEL=…                either of the two under a name of the user's

Not for: reading weights (`resdet.weights`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet.errors import ConfigError
from resdet.run import layout
from resdet.weights.addresses.fetch import is_address, name_of

RANDOM = "random:"
_LABELLED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.+-]*)=(.+)")
# Endings that a label does not repeat.
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".th", ".ckpt")


@dataclass(frozen=True)
class RankedBackbone:
    """One backbone of a ranking.

    Attributes:
        label: its name in tables and of its folder.
        source: a run folder, file or address; of a random net also the net's name.
    """

    label: str
    source: str
    is_random: bool = False

    def weights(self, made: Path) -> str:
        """The file or address that MODEL.WEIGHTS takes.

        Args:
            made: where the file of a random net is, or will be.
        """
        return str(made) if self.is_random else file_of_source(self.source)

    def to_json(self) -> dict[str, str | bool]:
        return {"label": self.label, "source": self.source, "random": self.is_random}


def candidates_of(words: Iterable[str]) -> list[RankedBackbone]:
    """The backbones that words of `--backbones` mean, in their order.

    Raises:
        ConfigError: an empty word, or two backbones of one label.

    Example:
        >>> candidates_of(["a=runs/one/x.pth", "random:resnet18"])[1]
        RankedBackbone(label='random-resnet18', source='resnet18', is_random=True)
    """
    found = [_candidate(word.strip()) for word in words]
    refuse_same_labels(found)
    return found


def refuse_same_labels(candidates: Sequence[RankedBackbone]) -> None:
    """Raises ConfigError where two have one label."""
    counts = Counter(candidate.label.casefold() for candidate in candidates)
    for candidate in reversed(candidates):  # what was typed last is what is named
        if counts[candidate.label.casefold()] > 1:
            raise ConfigError(
                f"two backbones are called {candidate.label}. Give one another name: "
                f"NAME={RANDOM if candidate.is_random else ''}{candidate.source}"
            )


def _candidate(word: str) -> RankedBackbone:
    label = ""
    labelled = _LABELLED.fullmatch(word)
    if labelled and not Path(word).exists() and not is_address(word):
        label, word = labelled[1], labelled[2]
    is_random = word.startswith(RANDOM)
    source = word.removeprefix(RANDOM)
    if not source:
        raise ConfigError(
            "--backbones has an empty name. Give run folders of pretrain_cls, files of weights, "
            f"addresses such as timm://resnet50.a1_in1k, or {RANDOM}NET."
        )
    label = label or f"{'random-' * is_random}{_label_of(source)}"
    return RankedBackbone(label, source, is_random)


def _label_of(source: str) -> str:
    text = name_of(source).partition("?")[0] if is_address(source) else source.replace(":", "-")
    path = Path(text)
    name = path.name or str(path)
    # model.safetensors is the name of every run's file.
    if name == layout.CLASSIFIER and path.parent.name:
        name = path.parent.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def file_of_source(source: str) -> str:
    """The file of a run folder of `pretrain_cls`; a file or an address as it is.

    Raises:
        ConfigError: a run folder without its classifier.
    """
    if is_address(source) or not Path(source).is_dir():
        return source
    path = Path(source) / layout.CLASSIFIER
    if not path.exists():
        raise ConfigError(
            f"{source} has no {layout.CLASSIFIER}: it is no finished run of pretrain_cls. Finish "
            "it (--resume), or name a file of weights."
        )
    return str(path)

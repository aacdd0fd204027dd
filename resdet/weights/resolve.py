"""From a path to tensors under our names, their card, and whose file it is.

Asked in this order, by every command: a card inside the file, names of a net itself
(`native_names`), an origin's table (`identify`) with the card beside the file or the origin's
habits. A `WeightFile` does each of these steps on first use, and once.

Not for: whether values are healthy (`doctor`), or putting tensors into a net (`transfer`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from resdet.errors import WeightsError
from resdet.weights import native_names
from resdet.weights.addresses.fetch import if_address
from resdet.weights.cards import CARD_KEY, Card, card_beside, part_of
from resdet.weights.eps import with_its_eps
from resdet.weights.formats import containers
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.origins.habits import by_habit, card_of
from resdet.weights.origins.identify import Identified, identify
from resdet.weights.origins.origin import Habits
from resdet.weights.tensor_checks import refuse_not_finite, sha256_of
from resdet.weights.transfer import grouped


class WeightFile:
    """One file, read and hashed once; every attribute raises WeightsError as `load` does.

    Args:
        path: of a file, or an address (`weights.addresses`), which is fetched here.
        part: as `containers.read` takes it; default: the one that the card beside the file is of.
        net_given: the user states what the file is; a card beside it is ignored.
    """

    def __init__(self, path: Path | str, part: str | None = None, *, net_given: bool = False):
        self.fetched = if_address(path)
        self.path = self.fetched.path if self.fetched else Path(path)
        self.where = str(self.path)
        self.part = part
        self.net_given = net_given

    @property
    def source(self) -> dict[str, str]:
        """Where the file of an address came from (`FetchedFile.record`); {} for a path."""
        return self.fetched.record() if self.fetched else {}

    @cached_property
    def contents(self) -> Contents:
        """What the file holds, under its own names."""
        part = self.part or (None if self.net_given else part_of(self.where))
        return containers.read(self.where, part=part)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the tensors under the names of the file."""
        return sha256_of(self.contents.tensors)

    @property
    def has_card_inside(self) -> bool:
        return CARD_KEY in self.contents.metadata

    @cached_property
    def card_inside(self) -> Card | None:
        """The card in one of our files; its SHA-256 is not compared here."""
        if not self.has_card_inside:
            return None
        return Card.from_json(self.contents.metadata[CARD_KEY], self.where)

    @cached_property
    def named(self) -> tuple[Tensors, Card] | None:
        """Tensors and card of a file whose tensors are called as in the net itself."""
        return native_names.known(self.path, self.contents, self.digest)

    @cached_property
    def identification(self) -> Identified:
        """The file by an origin's table, held to the card beside it."""
        card = None if self.net_given else card_beside(self.where)
        return self.identified(card)

    def identified(self, card: Card | None) -> Identified:
        """The file by an origin's table, held to this card."""
        return identify(self.contents, self.where, card, net_given=self.net_given)

    @cached_property
    def habits(self) -> Habits:
        """What is known of a foreign file without asking."""
        return by_habit(self.path, self.contents, self.identification)

    @property
    def origin(self) -> str:
        """Whose names the file has: "resdet", or an origin of the table."""
        if self.has_card_inside:
            return "resdet"
        if self.named:
            return "timm" if self.named[1].net.startswith(native_names.TIMM) else "resdet"
        return self.identification.origin.name

    @property
    def own_tensors(self) -> Tensors:
        """The net's tensors, of a foreign file, under the names that its origin gives them."""
        return self.contents.tensors if self.named else self.identification.own

    @property
    def strangers(self) -> tuple[str, ...]:
        """Names in the file that belong to no net."""
        if self.has_card_inside:
            return ()
        return (*self.contents.left_aside, *(() if self.named else self.identification.extras))

    def left_aside(self) -> str:
        """How many tensors of the file belong to no net, and their names; "" for none."""
        names = self.strangers
        if not names:
            return ""
        modules = grouped(names)
        return (
            f"left aside, of no net: {len(names)} tensors ({', '.join(modules[:6])}"
            f"{', …' if len(modules) > 6 else ''})"
        )

    def load(self) -> tuple[Tensors, Card]:
        """Tensors under our names, and their card; raises as `files.load`."""
        refuse_not_finite(self.contents.tensors, self.where)
        tensors, card = self._loaded()
        if self.source:
            card = replace(card, source=self.source)
        return tensors, with_its_eps(card, self.where)

    def _loaded(self) -> tuple[Tensors, Card]:
        if card := self.card_inside:
            if card.tensors_sha256 != self.digest:
                raise WeightsError(
                    f"{self.where} is damaged: its tensors do not match the SHA-256 in its card. "
                    "Fetch or train it again."
                )
            return self.contents.tensors, card
        if self.named:
            return self.named
        return self.identification.tensors, card_of(
            self.path, self.contents, self.identification, self.digest
        )

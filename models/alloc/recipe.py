"""The recipe of one training: a method, the streets that it learns from, and what it continues from."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from models.alloc.streets import StreetOf
from models.frozen import FrozenModel
from models.pipeline.recipe import BaseRecipe, Optimiser

Task = Literal["snapshot", "analogy", "in-context", "retrieval", "mateformer", "neighbours", "fix", "chain"]
Input = Literal["csi", "angle-delay", "carriers"]
Sampling = Literal["neighbourhood", "random"]


class Method(FrozenModel):
    """How one method is trained. ``input`` is that of a data-to-label model, ``tasks``: it has a head for each street.

    ``sampling``: which fingerprints a method with references sees, in training and in use. A ``chain`` of methods
    learns nothing by itself: what one finds is the coarse position of the next. ``batch`` counts users, or
    neighbourhoods. ``overrides`` change the recipe of the shipped Mateformer.
    """

    task: Task
    label: str
    input: Input = "csi"
    tasks: bool = False
    sampling: Sampling = "neighbourhood"
    chain: tuple[str, ...] = ()
    batch: int = Field(16, gt=0)
    model: dict[str, int] = Field(default_factory=dict)
    optimiser: Optimiser | None = None  # none: the method learns nothing
    overrides: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _learns_or_needs_not(self) -> Method:
        learns_nothing = self.task in ("fix", "neighbours", "chain")
        if learns_nothing != (self.optimiser is None):
            need = "learns nothing and has no optimiser" if learns_nothing else "needs an optimiser"
            raise ValueError(f"a method of the task {self.task} {need}")
        if (self.task == "chain") != (len(self.chain) > 1):
            raise ValueError("a chain needs two methods or more, and no other task has one")
        return self


class RivalRecipe(BaseRecipe):
    """``streets`` are learned with ``references`` fingerprints each, all by default.

    ``after`` is the digest of the training whose weights this one continues from. ``fresh_head``: all weights stay but
    those of a new head, as multi-task learning does in a new scenario.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset({"name", "version"})

    family: Literal["alloc"]
    carrier_frequency: float
    users: int = Field(ge=1)
    method: Method
    streets: dict[str, StreetOf]
    references: int | None = Field(None, ge=1)
    after: str | None = None
    fresh_head: bool = False

"""A method's schedule is data: a list of stages, and one machine that walks through them.

Shape of Motion's pre-fit, 4DGS's coarse and fine, delayed poses: each is a stage that says which parameter groups train
at which rate, which losses are on, and whether density control runs. No method has a training loop of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch.optim import Optimizer


@dataclass(frozen=True)
class Decay:
    """A learning rate that falls log-linearly to ``factor`` times its start over ``steps`` steps, then stays."""

    factor: float
    """What the rate is multiplied by in the end."""
    steps: int
    """How long it falls."""

    def at(self, step: int) -> float:
        if self.steps <= 0:
            return 1.0
        return float(self.factor ** min(step / self.steps, 1.0))


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one set of rules."""

    name: str
    steps: int
    """Length in training steps."""
    renders: bool = True
    """Whether a step draws frames and renders; a stage that does not fits parameters to priors alone."""
    groups: tuple[str, ...] | None = None
    """The parameter groups that train (None: all); the others are frozen."""
    losses: tuple[str, ...] | None = None
    """The losses that are on (None: all of the method's)."""
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Rates that replace the optimizers' own, by parameter group."""
    decays: Mapping[str, Decay] = field(default_factory=dict)
    """How rates fall within the stage, by parameter group; the key ``"*"`` means all groups."""
    density_control: bool = True
    resets_moments: bool = False
    """Forget the optimizers' moments at entry (they belong to another objective)."""
    moves_from: int = 0
    """The step (of the stage) at which the motion field comes into use; before, the canonical pose is rendered."""
    exposes_from: int = 0
    """The step (of the stage) from which whole exposures are rendered; before, their sharp middles."""
    starts: Mapping[str, int] = field(default_factory=dict)
    """The step (of the stage) from which a parameter group trains, where that is not the first."""


class Schedule:
    """Stages in order; answers which one a step belongs to and applies its rules to the optimizers."""

    def __init__(self, stages: Iterable[Stage]):
        self.stages = tuple(stage for stage in stages if stage.steps > 0)
        if not self.stages:
            raise ValueError("A schedule needs at least one stage with more than 0 steps, but all stages are empty.")

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def outlook(self, start: int, steps: int) -> str:
        """What a training of ``steps`` steps from step ``start`` on will do, in a sentence or two for the user."""
        parts = [f"{s.steps} {s.name}" + ("" if s.renders else " (renders nothing)") for s in self.stages]
        whole = f"{self.total_steps} steps" if len(parts) == 1 else f"{' + '.join(parts)} = {self.total_steps} steps"
        said, end = [f"Schedule: {whole}"], start + steps
        if start > 0:
            said.append(f"going on at step {start}")
        if end < self.total_steps:
            said.append(f"stopping at step {end}")
        text = ", ".join(said) + "."
        if steps == 0:
            return f"{text} Nothing is left to do; --max-num-iterations N trains N steps more."
        if not any(self.at(step)[0].renders for step in (start, end - 1)):
            return f"{text} No image is rendered before that: --max-num-iterations may be larger."
        return text

    def at(self, step: int) -> tuple[Stage, int]:
        """The stage of a training step and the step's number within it; past the end, the last stage goes on."""
        start = 0
        for stage in self.stages:
            if step < start + stage.steps:
                return stage, step - start
            start += stage.steps
        last = self.stages[-1]
        return last, step - (start - last.steps)

    def apply(self, step: int, optimizers: Mapping[str, Optimizer], base_rates: Mapping[str, float]) -> None:
        """Set rates and frozen groups for ``step``; call before every training step (idempotent)."""
        stage, step_in_stage = self.at(step)
        for name, optimizer in optimizers.items():
            decay = stage.decays.get(name, stage.decays.get("*"))
            rate = stage.learning_rates.get(name, base_rates[name]) * (decay.at(step_in_stage) if decay else 1.0)
            trains = (stage.groups is None or name in stage.groups) and step_in_stage >= stage.starts.get(name, 0)
            if step_in_stage == 0 and stage.resets_moments:
                optimizer.state.clear()
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
                for parameter in group["params"]:
                    parameter.requires_grad_(trains)

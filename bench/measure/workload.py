"""The step that every backend is timed on: host arrays in, host actions out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median

import numpy as np

from vla_edge.bench.report.types import PromptTime
from vla_edge.runtime.bundle.bundle import sample_inputs
from vla_edge.runtime.engines.session import Session

from .parity import ActionErrors

ACTIONS = "actions"
MASK = "attention_mask"
_STAGE = "stage_"  # before a stage's name among golden arrays


class PolicyStep:
    """One policy step on preprocessed input, walking through the golden samples.

    A call copies the sample into the session's inputs (`pixel_values` already normalised, or the camera's `frame` as
    it is, tokens already padded), runs it, and copies the actions out. The copies are part of the step for
    every backend alike. Actions of every call are kept until `check`, so that an engine which goes wrong
    while it is timed does not pass.

    Args:
        session: the backend.
        golden: arrays of `golden.npz`: inputs [N, ...], `actions` [N, steps, size] and stages.
        state: names of inputs that carry state, [N, layers, hidden] in `golden`.
        output: the name of the session's actions.
    """

    def __init__(
        self,
        session: Session,
        golden: Mapping[str, np.ndarray],
        state: Collection[str] = (),
        output: str = ACTIONS,
    ) -> None:
        self._session = session
        self._output = output
        shapes = {name: buffer.shape for name, buffer in session.inputs.items()}
        self._tokens = _real_tokens(golden)
        self._states = {name.removeprefix(_STAGE): golden[name] for name in golden if name.startswith(_STAGE)}
        self._inputs = [sample_inputs(golden, at, shapes, state) for at in range(len(golden[ACTIONS]))]
        self._next = 0
        self._unchecked: list[tuple[int, np.ndarray]] = []

    def __len__(self) -> int:
        """The number of golden samples."""
        return len(self._inputs)

    def __call__(self) -> None:
        """Run the next sample."""
        self._feed(self._inputs[self._next])
        self._session.run()
        self._unchecked.append((self._next, self._session.outputs[self._output].copy()))
        self._next = (self._next + 1) % len(self._inputs)

    def check(self, errors: ActionErrors) -> None:
        """Compare the actions of every call since the last check."""
        for sample, actions in self._unchecked:
            errors.add(sample, actions)
        self._unchecked.clear()

    def check_state(self, errors: ActionErrors, stages: Mapping[str, str]) -> None:
        """Run every golden sample once more and compare the state that comes back: no part of a timed call.

        Args:
            errors: receive it.
            stages: the output of each stage that is carried state.
        """
        for at, inputs in enumerate(self._inputs if stages else ()):
            self._feed(inputs)
            self._session.run()
            for stage, output in stages.items():
                errors.add_state(stage, self._session.outputs[output], self._states[stage][at])

    def _feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name, value in inputs.items():
            np.copyto(self._session.inputs[name], value)

    def prompt_times(self, samples_ms: Sequence[float], first: int) -> tuple[PromptTime, ...]:
        """Group timed calls by how many tokens their instruction has before padding.

        Args:
            samples_ms: of consecutive calls.
            first: which call of this object, from 0, was the first of them.
        """
        groups: dict[int, list[float]] = {}
        for at, spent_ms in enumerate(samples_ms):
            if self._tokens:
                tokens = self._tokens[(first + at) % len(self)]
                groups.setdefault(tokens, []).append(spent_ms)
        return tuple(
            PromptTime(tokens=tokens, runs=len(group), p50_ms=median(group))
            for tokens, group in sorted(groups.items())
        )


def _real_tokens(golden: Mapping[str, np.ndarray]) -> list[int]:
    """Of each sample; empty where the policy takes no tokens."""
    if MASK not in golden:
        return []
    masks = golden[MASK]
    return [int(np.count_nonzero(masks[at])) for at in range(len(masks))]

"""Planted truth for `vla-settings`: checkpoints whose val_mae was computed here, with settings drawn at random.

Nothing of the search is used for it: frames are prepared by Pillow and torch, the reference is called frame by frame
as a robot calls it, and the error is averaged as the training script does. Then the search must find the settings.

    .venv/bin/python tests/support/planted_settings.py --draws 60 --seed 0
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from PIL import Image

from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.export.family import PromptRequest
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.sample.samples import sample_of
from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
from vla_edge.export.kosmos2.settings import LEFT, RIGHT, STRAIGHT, PolicySettings
from vla_edge.export.sample.sample import write_sample
from vla_edge.export.search.search import Outcome, SearchOptions, find_settings
from vla_edge.runtime.episodes.episode import Actions, Episode
from vla_edge.runtime.errors import InputError

STEPS = 18
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
NOTHING = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PIXELS = (("bilinear", *IMAGENET), ("lanczos", *NOTHING), ("bilinear", *NOTHING), ("bicubic", *CLIP))
FEATURES = {
    "pure": [["text"], ["image_projection"]],
    "hybrid-a": [
        order for one in ("text", "image_projection") for order in ([one, "clip_image"], ["clip_image", one])
    ],
    "hybrid-b": [["vision", "clip_image"], ["clip_image", "vision"]],
    "hybrid-c": [
        ["vision", "clip_image", "clip_text"],
        ["clip_text", "vision", "clip_image"],
        ["clip_image", "clip_text", "vision"],
    ],
}
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass
class Draw:
    """A planted checkpoint.

    Attributes:
        path: of the checkpoint.
        settings: the truth.
        episodes: all that there are.
        protocol: how its error was taken, in words.
        is_fifth: whether of a random fifth.
        is_inside: whether the search tries such settings at all.
    """

    path: Path
    layout: str
    settings: PolicySettings
    episodes: list[Episode]
    protocol: str
    val_mae: float
    is_fifth: bool
    is_inside: bool


class Quiet:
    """A reporter that shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda done: None


@dataclass
class Counts:
    """What became of the draws."""

    found: int = 0
    several: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    none: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


def planted(folder: Path, seed: int, fifth: bool = False, outside: bool = False, layout: str = "") -> Draw:
    """A checkpoint with drawn settings, and the episodes that its error was taken on."""
    rng = random.Random(seed)
    layout = layout or rng.choice(["hybrid-a", "hybrid-b", "hybrid-c"] if fifth else list(FEATURES))
    form = rng.choice(["transformers", "open_clip"])
    drawn = draw_settings(rng, layout, outside)
    episodes = draw_episodes(rng, folder, 20 if fifth else rng.randint(5, 8), fifth)
    batch = rng.choice([1, 2, 2, 2, 3])
    steps = rng.choice(["all", "all", "all", "valid", "first"])
    order = rng.choice(["sorted", "reversed"])
    path = folder / f"planted-{seed}.pth"
    write_sample(path, sample_of(layout, form, "tiny", seed))  # type: ignore[arg-type]
    if not (folder / "tokenizer").exists():
        write_tokenizer(folder / "tokenizer", False)
    chosen = sorted(episodes, key=lambda episode: episode.name, reverse=order == "reversed")
    if fifth:
        chosen = rng.sample(chosen, len(chosen) // 5)
    val_mae = validate(path, drawn, chosen, batch, steps)
    content = torch.load(path, weights_only=False)
    content["val_mae"], content["args"].batch_size = val_mae, batch
    torch.save(content, path)
    words = f"{steps}, batches of {batch}, {order}"
    return Draw(path, layout, drawn, episodes, words, val_mae, fifth, not outside)


def draw_settings(rng: random.Random, layout: str, outside: bool) -> PolicySettings:
    resample, mean, std = rng.choice(PIXELS)
    lstm = rng.choice([("single", 8, 1), ("window", 8, 1), ("window", 8, 2), ("carried", 8, 1)])
    scale = rng.choice([2.0, 2.0, 1.15, 1.0])
    if outside:  # what nobody told the search of
        kind = rng.choice(["window", "pixels", "scale"])
        lstm = ("window", 5, 2) if kind == "window" else lstm
        resample, mean, std = ("bicubic", *IMAGENET) if kind == "pixels" else (resample, mean, std)
        scale = 1.5 if kind == "scale" else scale
    return PolicySettings(
        frame=rng.choice(["first", "current"]),
        features=tuple(rng.choice(FEATURES[layout])),
        pooling=rng.choice(["max", "mean", "last"]),
        prompt=rng.choice(["image_first", "image_first_grounding"]),
        projection_attention=rng.choice(["full", "causal"]),
        clip_feature=rng.choice(["projected", "projected_normalized"]),
        clip_activation=rng.choice(["quick_gelu", "gelu"]),
        lstm=lstm[0],  # type: ignore[arg-type]
        lstm_window=lstm[1],
        lstm_outputs=lstm[2],
        final_tanh=rng.choice([False, True]),
        image_resample=resample,  # type: ignore[arg-type]
        image_mean=mean,
        image_std=std,
        action_scale=(scale, scale),
    )


def draw_episodes(rng: random.Random, folder: Path, count: int, even: bool) -> list[Episode]:
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    episodes = []
    for at in range(count):
        length = STEPS if even else rng.choice([18, 18, 18, 11, 20])
        side = rng.choice(["left", "right", "middle"])
        text = {"left": LEFT, "right": RIGHT}.get(side, STRAIGHT)
        name = f"episode_{numbers.integers(1000, 9999)}_{at}_1box_vert_{side}"
        episodes.append(
            episode_of(
                name, folder / f"{name}.h5", text, draw_frames(numbers, length), draw_actions(numbers, length)
            )
        )
    return episodes


def draw_frames(numbers: np.random.Generator, length: int) -> np.ndarray:
    """A coloured box that comes nearer before a noisy wall: uint8 [length, 72, 128, 3]."""
    frames = numbers.integers(0, 80, (1, 72, 128, 3)) + numbers.integers(0, 100, (1, 1, 1, 3))
    frames = frames.repeat(length, axis=0)
    left, top, colour = numbers.integers(10, 80), numbers.integers(5, 40), numbers.integers(0, 256, 3)
    for at in range(length):
        frames[at, top - min(top, at) : top + 10 + at, left - min(left, at) : left + 12 + at] = colour
    return frames.astype(np.uint8)


def draw_actions(numbers: np.random.Generator, length: int) -> np.ndarray:
    walk = numbers.normal(0, 0.4, (length, 3)).cumsum(axis=0)
    return np.clip(walk, -1.15, 1.15)


def episode_of(name: str, path: Path, text: str, images: np.ndarray, actions: np.ndarray) -> Episode:
    """An episode whose frames are in memory."""
    driven = Actions(actions, ("linear_x", "linear_y", "angular_z"), None)
    return Episode(name, path, text, len(images), None, driven, lambda start: iter(images[start:]))


def validate(path: Path, settings: PolicySettings, episodes: list[Episode], batch: int, steps: str) -> float:
    """The training script's validation: batch after batch, a mean of their mean absolute errors."""
    checkpoint = read_checkpoint(path)
    side = checkpoint.architecture.vision.image_size
    policy = FAMILY.reference(checkpoint.architecture, settings, checkpoint.tensors)
    ids = token_ids(checkpoint.architecture, settings, path)
    batches = []
    for start in range(0, len(episodes), batch):
        errors = []
        for episode in episodes[start : start + batch]:
            actions = torch.zeros(STEPS, 2)
            length = min(episode.frame_count, STEPS)
            assert episode.actions is not None
            actions[:length] = torch.from_numpy(episode.actions.values[:length, :2]).float()
            target = (actions / settings.action_scale[0]).clamp(-1, 1)
            answer = drive(policy, settings, episode, ids, side)
            counted = {"all": STEPS, "valid": length, "first": 1}[steps]
            errors.append((answer - target).abs()[:counted])
        batches.append(torch.cat(errors).mean().item())
    return float(np.mean(batches))


def drive(
    policy: Any, settings: PolicySettings, episode: Episode, ids: dict[str, list[int]], side: int
) -> torch.Tensor:
    """What the policy answers at each step of an episode, one call after another: [18, 2]."""
    inputs: dict[str, Any] = {}
    if "text" in settings.features:
        row = torch.tensor([ids[episode.instruction or ""]])
        inputs |= {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if "clip_text" in settings.features:
        inputs["instruction_index"] = torch.tensor([settings.instructions.index(episode.instruction or "")])
    state: dict[str, Any] = {}
    if settings.lstm == "carried":
        zero = torch.zeros(policy.rnn.num_layers, 1, policy.rnn.hidden_size)
        state = {"h_in": zero, "c_in": zero}
    frames = list(episode.frames())
    answers = []
    for at in range(STEPS):
        shown = 0 if settings.frame == "first" else min(at, episode.frame_count - 1)
        pixels = pixel_values(frames[shown], settings, side)
        out = policy(pixel_values=pixels, **inputs, **state)
        if state:
            state = {"h_in": out["h_out"], "c_in": out["c_out"]}
        answers.append(out["actions"][0, 0])
    return torch.stack(answers)


def pixel_values(frame: np.ndarray, settings: PolicySettings, side: int) -> torch.Tensor:
    resized = Image.fromarray(frame).resize((side, side), FILTERS[settings.image_resample])
    pixels = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.image_mean, settings.image_std))
    return ((pixels - mean) / std)[None]


def token_ids(arch: Any, settings: PolicySettings, path: Path) -> dict[str, list[int]]:
    prompts = FAMILY.prompts(arch, replace(settings, features=("text",)), PromptRequest(path))
    assert prompts is not None
    return {one.text: list(one.token_ids) for one in prompts.instructions}


def searched(draw: Draw, cache: Path) -> Outcome:
    # on the CPU, as the error was taken: a GPU in TF32 moves it
    options = SearchOptions(draw.path, cache, validated="fifth" if draw.is_fifth else "all", device="cpu")
    outcome = find_settings(options, draw.episodes, Quiet())
    assert outcome is not None
    return outcome


def is_truth(draw: Draw, settings: Any) -> bool:
    search = FAMILY.search()
    return bool(search.canonical(draw.settings) == search.canonical(settings))


def count(draw: Draw, outcome: Outcome, counts: Counts) -> None:
    verdict = outcome.verdict
    ranked = [fit.at for fit in verdict.fits]
    ranked += sorted(verdict.fitting - set(ranked))
    places = [place for place, at in enumerate(ranked) if is_truth(draw, outcome.space[at])]
    places = [place for place in places if ranked[place] in verdict.fitting]
    label = f"{draw.path.stem} {draw.layout} ({draw.protocol})"
    if verdict.kind == "found" and places:
        counts.found += 1
    elif verdict.kind == "found":
        counts.wrong.append(label)
    elif verdict.kind == "several":
        counts.several += 1
        if draw.is_inside and not places:
            counts.missed.append(label)
    else:
        counts.none += 1
        if draw.is_inside:
            counts.missed.append(label)
    best = verdict.fits[0]
    counts.rows.append(
        {
            "draw": label,
            "kind": verdict.kind,
            "fits": verdict.count,
            "truth_at": places[0] if places else None,
            "distance": best.distance,
            "next": verdict.next_distance,
            "by_chance": verdict.by_chance,
            "values": verdict.values,
            "open": {name: len(values) for name, values in outcome.agreement.open.items()},
            "seconds": round(sum(outcome.seconds.values()), 1),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fifth", action="store_true", help="hybrids validated on a random fifth")
    parser.add_argument("--outside", action="store_true", help="settings that the search does not try")
    parser.add_argument("--layout", default="", choices=["", *FEATURES])
    given = parser.parse_args()
    torch.set_num_threads(1)  # tiny layers: more threads only wait for each other
    counts = Counts()
    start = time.perf_counter()
    for seed in range(given.seed, given.seed + given.draws):
        with tempfile.TemporaryDirectory() as folder:
            try:
                draw = planted(Path(folder), seed, given.fifth, given.outside, given.layout)
                count(draw, searched(draw, Path(folder, "cache")), counts)
            except InputError as error:
                sys.exit(f"seed {seed}: {error}")
        print(json.dumps(counts.rows[-1]), flush=True)
    by_kind = collections.Counter(row["kind"] for row in counts.rows)
    print(f"{given.draws} draws in {time.perf_counter() - start:.0f} s: {dict(by_kind)}")
    print(f"found rightly {counts.found}, found wrongly {len(counts.wrong)}: {counts.wrong}")
    print(f"several {counts.several}, none {counts.none}, truth not among the fits: {counts.missed}")


if __name__ == "__main__":
    main()

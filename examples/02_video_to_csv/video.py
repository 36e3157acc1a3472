"""Write the action for every frame of a video, or of another recording, into a CSV file."""

import argparse
import csv
from pathlib import Path

from vla_edge.runtime import Policy, VlaError, open_episodes

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export wrote")
parser.add_argument("video", type=Path, help="a video; or a folder of images, HDF5, LeRobot's, a bag")
parser.add_argument("csv", type=Path, help="is written; must not be there yet")
given = parser.parse_args()


def main() -> None:
    episodes = open_episodes(given.video)
    with Policy.load(given.bundle) as policy, given.csv.open("x", encoding="utf-8", newline="") as file:
        policy.warmup()
        action = policy.manifest.action
        units = zip(action.names, action.units, strict=True)
        rows = csv.writer(file)
        rows.writerow(
            ["episode", "frame", "time_s", *(f"{name} [{unit}]" for name, unit in units), "total_ms"]
        )
        for episode in episodes:
            policy.reset()  # what it remembers is of another episode
            text = episode.instruction if policy.instructions else None
            for at, frame in enumerate(episode.frames()):
                did = policy.act(frame, text)  # None: the bundle's default
                time_s = "" if episode.times_s is None else f"{episode.times_s[at]:.3f}"
                values = (f"{value:.4f}" for value in did.values)
                rows.writerow([episode.name, at, time_s, *values, f"{did.timings_ms['total']:.1f}"])
            print(f"{episode.name}: {episode.frame_count} frames, {policy.identity}")


try:
    main()
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
except OSError as error:
    parser.exit(2, f"{error.filename or given.csv}: {error.strerror}\n")
except KeyboardInterrupt:
    parser.exit(130, f"interrupted; {given.csv} holds the rows up to here\n")

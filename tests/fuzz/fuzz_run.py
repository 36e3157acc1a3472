"""Long fuzzing: `python tests/fuzz/fuzz_run.py --cases 100000`, or one reader, or one case again.

Each reader runs in a process of its own, so that a signal, a hang or too much memory is a finding and not
the end. The case that was under way is known from a shared number; the next process goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import logging
import mmap
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz_readers

sys.path.append(str(Path(__file__).parents[1] / "support"))  # as pytest has it

CPU_LIMIT_S = 5.0  # of one case: a small file must not cost more
HANG_LIMIT_S = 90.0  # of the clock without any progress
PREPARE_LIMIT_S = 600.0  # of the clock until the first case: some readers need a bundle exported
MEMORY_LIMIT_MIB = 400  # that one case may add to the peak
ADDRESS_SPACE_BYTES = 6 << 30  # beyond what the libraries take: a bomb ends the case, not the machine
_STATE = struct.Struct("<qd")  # the case under way, the clock when it began


def work(name: str, seed: int, first: int, last: int, state: mmap.mmap, findings: Path) -> None:
    """Read cases one after another; append a line of JSON for each finding."""
    logging.disable()  # a warning for each case would hide the findings
    os.environ["OMP_NUM_THREADS"] = "1"  # readers share the cores: threads of each would wait for one another
    state[:] = _STATE.pack(-1, time.monotonic())
    with tempfile.TemporaryDirectory() as folder:
        reader = fuzz_readers.make(name, Path(folder))
        for example in reader.examples:
            fuzz_readers.finding(reader, example)  # imports, so that the first case does not count them
        _limit_memory()
        for number in range(first, last):
            state[:] = _STATE.pack(number, time.monotonic())
            data = reader.case(seed, number)
            began, before = time.process_time(), _peak_mib()
            found = fuzz_readers.finding(reader, data)
            for text in filter(None, (found, _too_dear(time.process_time() - began, _peak_mib() - before))):
                note(findings, name, seed, number, text, len(data))
    state[:] = _STATE.pack(last, time.monotonic())


def _limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_SPACE_BYTES,) * 2)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _too_dear(cpu_s: float, memory_mib: float) -> str | None:
    if cpu_s > CPU_LIMIT_S:
        return f"slow: {cpu_s:.1f} s of CPU"
    return f"memory: {memory_mib:.0f} MiB more" if memory_mib > MEMORY_LIMIT_MIB else None


def note(findings: Path, name: str, seed: int, number: int, text: str, size_bytes: int) -> None:
    line = {"reader": name, "seed": seed, "case": number, "bytes": size_bytes, "found": text}
    with findings.open("a", encoding="ascii") as file:
        file.write(json.dumps(line) + "\n")


class Watched:
    """One reader's share of the cases, in a process that is started again after each end that it should not have."""

    def __init__(self, name: str, seed: int, first: int, last: int, findings: Path) -> None:
        self.name, self._seed, self._last, self._findings = name, seed, last, findings
        self._state = mmap.mmap(-1, _STATE.size)
        self.began = time.monotonic()
        self.ended = False
        self._start(first)

    def _start(self, first: int) -> None:
        self._first = first
        self._state[:] = _STATE.pack(-1, time.monotonic())
        arguments = (self.name, self._seed, first, self._last, self._state, self._findings)
        self._process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
        self._process.start()

    @property
    def done(self) -> int:
        return max(self._first, _STATE.unpack(self._state[:])[0])

    def look(self) -> None:
        """Note a process that died or hangs, and start the next one behind that case."""
        number, since = _STATE.unpack(self._state[:])
        if self._process.is_alive():
            limit_s = HANG_LIMIT_S if number >= 0 else PREPARE_LIMIT_S
            if time.monotonic() - since < limit_s:
                return
            self._process.kill()
            self._process.join()
            text = f"hang: over {limit_s:.0f} s"
        elif self._process.exitcode == 0:
            self.ended = True
            return
        else:
            text = f"died: exit code {self._process.exitcode}"
        note(self._findings, self.name, self._seed, number, text, -1)
        if number < 0:  # before its first case: it would die again
            self.ended = True
        else:
            self._start(number + 1)


def run(names: list[str], seed: int, cases: int, first: int, jobs: int, findings: Path) -> Iterator[Watched]:
    """Run all readers, `jobs` at a time; yields each when it has ended."""
    waiting, running = list(names), []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Watched(waiting.pop(0), seed, first, first + cases, findings))
        time.sleep(0.2)
        for each in running:
            each.look()
        if sys.stderr.isatty():
            line = ", ".join(f"{each.name} {each.done - first:,}" for each in running)
            print(f"\r{line[:100]:100}", end="", file=sys.stderr)
        yield from (each for each in running if each.ended)
        running = [each for each in running if not each.ended]


def again(name: str, seed: int, number: int) -> int:
    """One case in this process, with its traceback."""
    with tempfile.TemporaryDirectory() as folder:
        reader = fuzz_readers.make(name, Path(folder))
        data = reader.case(seed, number)
        Path("case.bin").write_bytes(data)
        print(f"{name} {number}: {len(data)} bytes, kept in case.bin: {data[:200]!r}")
        reader.read(data)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(fuzz_readers.READERS)}; all by default")
    parser.add_argument("--cases", type=int, default=100_000, help="of each reader [100000]")
    parser.add_argument("--tokenizer-cases", type=int, default=10_000, help="each takes milliseconds [10000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", type=int, help="run this one again, here, with its traceback")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings.jsonl"))
    given = parser.parse_args()
    names = given.readers or list(fuzz_readers.READERS)
    if unknown := set(names) - set(fuzz_readers.READERS):
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")
    if given.case is not None:
        return again(names[0], given.seed, given.case)
    given.findings.unlink(missing_ok=True)
    for name_group, cases in (
        ([name for name in names if name != "tokenizer"], given.cases),
        ([name for name in names if name == "tokenizer"], min(given.cases, given.tokenizer_cases)),
    ):
        for each in run(name_group, given.seed, cases, given.first, given.jobs, given.findings):
            print(_summary(each, cases, given.findings), flush=True)
    return int(given.findings.exists())


def _summary(each: Watched, cases: int, findings: Path) -> str:
    lines: list[dict[str, Any]] = []
    if findings.exists():
        lines = [json.loads(line) for line in findings.read_text().splitlines()]
    mine = [line for line in lines if line["reader"] == each.name]
    seconds = time.monotonic() - each.began
    text = f"{each.name:12} {cases:>8,} cases  {seconds:7.0f} s  {len(mine)} findings"
    return "\n".join([text, *(f"  case {line['case']}: {line['found']}" for line in mine[:10])])


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.simulation --seeds 100000 --from 0`: hunt. Exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.schedule import Broken, Schedule


def failure(seed: int, trace: bool = False) -> str:
    """Run one seed; -> what it broke and how to see it again, or nothing."""
    schedule = Schedule(seed)
    try:
        schedule.run()
    except Broken as error:
        told = "\n".join(schedule.world.trace) + "\n" if trace else ""
        return f"{told}seed {seed}: {error}\nreplay: python -m tests.simulation --from {seed} --seeds 1 --trace"
    if trace:
        print("\n".join(schedule.world.trace))
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many schedules")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    options = parser.parse_args(arguments)
    began, failed = time.process_time(), 0
    for seed in range(options.first, options.first + options.seeds):
        broken = failure(seed, options.trace)
        if broken:
            failed += 1
            print(f"\r{broken}")
        if sys.stderr.isatty() or seed % 1000 == 999:
            done = seed - options.first + 1
            seconds = time.process_time() - began
            print(
                f"\r{done} of {options.seeds} seeds, {failed} failed, {seconds:.0f} s of CPU",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(f"\r{options.seeds} seeds from {options.first}: {failed} failed, {time.process_time() - began:.1f} s of CPU")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

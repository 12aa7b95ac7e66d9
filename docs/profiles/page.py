"""What the page costs the broker, and how fast it opens (docs/page.md has the figures).

    python docs/profiles/page.py --rate 100

A farm with a page, holes at this rate. In turns nobody looks on, or a browser does, with the list
open and following: of each turn the CPU time of the broker process is taken. Then the list and
single holes are opened many times, with the load going on.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import threading
import time

import psutil
from playwright.sync_api import Page, sync_playwright

from farm.simulation.drilled import mixed_templates
from farm.simulation.ports import free_port
from farm.simulation.rig import Rig
from farm.simulation.schedule import Plan
from farm.simulation.units import DrillingUnits, simulated_fleet


def cpu_s(process: psutil.Process) -> float:
    """CPU time of a process so far."""
    used = process.cpu_times()
    return used.user + used.system


def of(rig: Rig, word: str) -> psutil.Process:
    """The process of a farm with this word in its command."""
    children = psutil.Process(rig.pid).children(recursive=True)
    return next(child for child in children if word in child.cmdline())


def share(process: psutil.Process, seconds: float) -> float:
    """Of one core, in percent."""
    began_s, used_s = time.monotonic(), cpu_s(process)
    time.sleep(seconds)
    return 100 * (cpu_s(process) - used_s) / (time.monotonic() - began_s)


def told(name: str, values: list[float], unit: str) -> None:
    """One line of figures."""
    middle, worst = statistics.median(values), max(values)
    say(f"{name}: median {middle:.1f} {unit}, worst {worst:.1f} {unit}, n {len(values)}")


def say(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def opened_ms(page: Page, base: str, path: str, sign: str) -> float:
    """From asking for a page to seeing this in it."""
    began_s = time.monotonic()
    page.goto(base + path)
    page.wait_for_selector(sign)
    return 1000 * (time.monotonic() - began_s)


def hole_ms(page: Page) -> float:
    """From the key to the trace of a hole of the list."""
    page.wait_for_selector("table.holes tbody tr")
    page.keyboard.press("j")
    began_s = time.monotonic()
    page.keyboard.press("Enter")
    page.wait_for_selector("canvas")
    took_ms = 1000 * (time.monotonic() - began_s)
    page.keyboard.press("Escape")
    return took_ms


def measure(rig: Rig, base: str, *, turns: int, seconds: float) -> None:
    """All figures, while the load goes on."""
    broker, dashboard = of(rig, "broker"), of(rig, "dashboard")
    closed, watched, served = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(turns):
            closed.append(share(broker, seconds))
            page = browser.new_page()
            page.goto(base)
            page.wait_for_selector("table.holes tbody tr")
            before_s, began_s = cpu_s(dashboard), time.monotonic()
            watched.append(share(broker, seconds))
            served.append(100 * (cpu_s(dashboard) - before_s) / (time.monotonic() - began_s))
            page.close()
        told("broker, nobody looks on", closed, "% of a core")
        told("broker, a browser looks on", watched, "% of a core")
        told("difference, turn by turn", [b - a for a, b in zip(closed, watched, strict=True)], "%")
        told("the page's own process", served, "% of a core")
        firsts, holes = [], []
        for _ in range(10):
            context = browser.new_context()  # nothing in its cache
            page = context.new_page()
            firsts.append(opened_ms(page, base, "/", "table.holes tbody tr"))
            holes.append(hole_ms(page))
            context.close()
        page = browser.new_page()
        page.goto(base)
        again = [hole_ms(page) for _ in range(20)]
        told("first view, to the list", firsts, "ms")
        told("a hole, the first of a browser", holes, "ms")
        told("a hole, later ones", again, "ms")
        browser.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    port = free_port()
    with Rig(workers=2, settings={"page": {"listen": f"127.0.0.1:{port}"}}) as rig:
        rig.wait_ready()
        fleet = simulated_fleet(mixed_templates(seed=1), tools=12)
        plan = Plan(given.rate, 0, shuffle=True, skew_s=0.02)
        units = DrillingUnits(rig.broker.address, fleet.next_hole, plan, seed=1)
        units.connect()
        sender = threading.Thread(target=units.run, daemon=True)
        sender.start()
        time.sleep(10)
        measure(rig, f"http://127.0.0.1:{port}", turns=given.turns, seconds=given.seconds)
        shot = rig.stats() or {}
        say(f"at the end: {shot.get('throughput')} {shot.get('holes')}")
        units.stop()
        sender.join()
        units.close()


if __name__ == "__main__":
    main()

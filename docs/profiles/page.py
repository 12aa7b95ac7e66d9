"""What the page costs the broker, and how fast it opens (docs/page.md has the figures).

    python docs/profiles/page.py --rate 100

A farm with a page, holes at this rate (of samples/). In turns nobody looks on, or a browser does,
with the list open and following: of each turn the CPU time of the broker process is taken. Then the
list and single holes are opened many times, with the load going on.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time

import psutil
from playwright.sync_api import Page, sync_playwright

from farm.page.asking import Asker
from farm.simulation.bench.drive import Driver, Load
from farm.simulation.ports import free_port
from farm.simulation.rig import Rig


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
        floor, firsts, holes = [], [], []
        for _ in range(10):
            context = browser.new_context()  # nothing in its cache
            page = context.new_page()
            floor.append(opened_ms(page, base, "/api/holes?limit=0", "pre"))
            firsts.append(opened_ms(page, base, "/", "table.holes tbody tr"))
            holes.append(hole_ms(page))
            context.close()
        page = browser.new_page()
        page.goto(base)
        again = [hole_ms(page) for _ in range(20)]
        told("an answer of one line, with nothing to draw", floor, "ms")
        told("first view, to the list", firsts, "ms")
        told("a hole, the first of a browser", holes, "ms")
        told("a hole, later ones", again, "ms")
        browser.close()


def snapshot_ms(rig: Rig, broker: psutil.Process, count: int) -> float:
    """CPU time of the broker for one request of the page, over what it needs anyway."""
    asker = Asker(rig.control)
    usual = share(broker, 5.0) / 100
    began_s, used_s = time.monotonic(), cpu_s(broker)
    for _ in range(count):
        asker.snapshot()
        time.sleep(0.005)
    took_s = cpu_s(broker) - used_s - usual * (time.monotonic() - began_s)
    asker.close()
    return 1000 * took_s / count


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    load = Load(holes_dir="samples", tools=12, rate_hz=given.rate, duration_s=3600.0)
    page = {"listen": f"127.0.0.1:{free_port()}"}
    with Rig(workers=2, settings={"page": page}) as rig:
        rig.wait_ready()
        with Driver(load, rig.broker.address) as driver:
            driver.wait_ready()
            driver.tell("go")
            time.sleep(10)
            measure(rig, f"http://{page['listen']}", turns=given.turns, seconds=given.seconds)
            cost_ms = snapshot_ms(rig, of(rig, "broker"), 1000)
            say(f"the broker, for one request of the page (one a second): {cost_ms:.2f} ms of CPU")
            shot = rig.stats() or {}
            say(f"at the end: {shot.get('throughput')}")


if __name__ == "__main__":
    main()

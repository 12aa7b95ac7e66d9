"""The course of b simulated holes: which step runs from where to where, and why it ends.

Owns what the machine decides, from noise-free profiles; `farm.training.readings` turns it into the
samples that a machine reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.training.draws import MAX_STEPS, Array, Draws, Mask
from farm.training.profile import TORQUE_FIRST, TORQUE_METAL, Profile, draw_profile
from farm.training.programs import Role, StopCode
from farm.training.ramps import STEP_MM
from farm.training.stack import FIRST, METAL, Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.training.faults import Faults

_CONTACT_A = 0.3  # the approach step ends at this torque
_FEWEST_MM = 0.05  # that a step advances
_HIDDEN_SHARE = 1.2  # of a restart's ramp: metal met within it has no onset of its own
_GAP_MM = 2.0  # that a torque-minimum step runs on, to be through for sure


@dataclass(slots=True)
class Course:
    """How b holes were drilled; arrays are (b, MAX_STEPS) unless said otherwise.

    Attributes:
        stack: what there was to drill.
        profile: what the motors felt.
        runs: which steps were run.
        start_mm: where each began.
        end_mm: where each ended.
        feed_mm_s: how fast.
        gain_first: share of the first material's torque that shows at this step's speed.
        gain_metal: the same of the metal's.
        gain_thrust: the same of the thrust, whatever the material.
        resume_mm: hinge of the torque's return after a step change; -inf where it never left.
        resume_width_mm: length of that return.
        resume_lead_mm: how much earlier thrust returns.
        stop_code: why each ended.
    """

    stack: Stack
    profile: Profile
    runs: Mask
    start_mm: Array
    end_mm: Array
    feed_mm_s: Array
    gain_first: Array
    gain_metal: Array
    gain_thrust: Array
    resume_mm: Array
    resume_width_mm: Array
    resume_lead_mm: Array
    stop_code: NDArray[np.intp]


def drill(draws: Draws, stack: Stack, faults: Faults, *, thrust_leads: bool = True) -> Course:
    """Run the programs of a batch on their stacks; `thrust_leads` as for `draw_profile`."""
    b, shape = len(draws), (len(draws), MAX_STEPS)
    role = draws.plans("role")
    feed = draws.plans("feed_mm_s") * (draws.of("speed") * draws.spread(0.02))[:, None]
    feed *= np.exp(draws.given("feed_spread")[:, None] * draws.rng.standard_normal(shape))
    feed = np.clip(feed, 0.1, 7.0)
    plan = _Plan(draws, stack, faults, role)
    restart = _Restart(draws, feed, plan.backoff_mm)
    hidden = _hide(stack, plan, restart)
    profile = draw_profile(
        draws,
        stack,
        plan.farthest_mm(),
        drills=(~faults.air).astype(float),
        thrust_leads=thrust_leads,
    )
    course = Course(
        stack=stack,
        profile=profile,
        runs=np.zeros(shape, bool),
        start_mm=np.zeros(shape),
        end_mm=np.zeros(shape),
        feed_mm_s=feed,
        gain_first=np.where(
            np.cumsum(role == Role.METAL, 1) > 0, draws.uniform(0.65, 1.15)[:, None], 1.0
        ),
        gain_metal=np.where(role == Role.FIRST, _fast_metal(draws, stack)[:, None], 1.0),
        gain_thrust=np.where(role == Role.FIRST, _fast_thrust(draws, stack)[:, None], 1.0),
        resume_mm=np.full(shape, -np.inf),
        resume_width_mm=np.ones(shape),
        resume_lead_mm=draws.rng.uniform(-0.1, 0.08, shape),
        stop_code=np.zeros(shape, np.intp),
    )
    reached, over = draws.of("start_mm"), np.zeros(b, bool)
    for step in range(MAX_STEPS):
        reached, over = _run_step(course, plan, restart, step, reached=reached, over=over)
    _hide_tip(course, role, hidden)
    return course


def _fast_metal(draws: Draws, stack: Stack) -> Array:
    """(b,) the metal's torque at the first step's speed against the metal step's own.

    A first step that drills into metal unasked is loaded more; where all is metal, it is meant to.
    """
    alone = ~stack.present[:, FIRST]
    return np.where(alone, draws.uniform(0.35, 1.1), draws.uniform(0.85, 1.5))


def _fast_thrust(draws: Draws, stack: Stack) -> Array:
    """(b,) the same of the thrust."""
    alone = ~stack.present[:, FIRST]
    return np.where(alone, draws.uniform(0.04, 1.1), draws.uniform(0.8, 1.25))


class _Plan:
    """What is decided of each hole's program before it starts."""

    def __init__(self, draws: Draws, stack: Stack, faults: Faults, role: Array) -> None:
        self.role = role
        self.last = (role != Role.NONE).sum(1) - 1
        self.backoff_mm = draws.of("backoff_mm")
        self.on_stroke = draws.happens(draws.given("stroke_share"))
        self.torque_max_a = draws.of("torque_max_a")
        self.torque_min_a = draws.of("torque_min_a")
        self.runs_on_mm = _GAP_MM * draws.uniform(0.9, 1.1) * draws.happens(0.6)
        self.contact_a = _CONTACT_A * draws.uniform(0.4, 1.6)
        self.first_end_mm = self._first_end(draws, stack)
        through = stack.exit_mm + draws.uniform(0.9, 4.0)
        self.end_mm = np.maximum(np.where(draws.happens(0.15), 0, draws.of("end_mm")), through)
        # The program's last stroke falls short: the hole was never drilled through.
        short = stack.exit_mm - draws.uniform(0.1, 3.0)
        self.end_mm = np.where(faults.missed_exit, short, self.end_mm)
        self.end_code = np.where(draws.happens(0.5), StopCode.THRUST_LIMIT, StopCode.STROKE).astype(
            np.intp
        )

    def farthest_mm(self) -> Array:
        """(b,) that no step goes beyond."""
        return self.end_mm + 0.5

    def _first_end(self, draws: Draws, stack: Stack) -> Array:
        """Where a first step that ends on stroke does so: short of the metal, or inside it.

        A stroke says nothing of material: where it falls short, the transition lies in the next
        step. Through one material alone, the program changes step anywhere.
        """
        both = stack.present[:, FIRST] & stack.present[:, METAL]
        draw = draws.uniform(0, 1)
        ahead = np.where(draw < 0.1, -draws.uniform(0.3, 2.0), draws.of("stroke_before_mm"))
        ahead = np.where(draw > 0.9, draws.uniform(1.5, 9.0), ahead)
        anywhere = stack.entry_mm + draws.uniform(0.2, 0.8) * (stack.exit_mm - stack.entry_mm)
        end = np.where(both, stack.start_mm[:, METAL] - ahead, anywhere)
        return np.clip(end, stack.entry_mm + 0.8, stack.exit_mm - 0.3)


class _Restart:
    """How the load comes back after a step change, of each step (b, MAX_STEPS).

    The drive needs a tenth of a second before it cuts again and another to come up; at a fast feed
    these are tenths of a millimetre.

    Attributes:
        backoff_mm: (b,) how far the tip is pulled back.
        delay_mm: from the old depth to the torque's return.
        width_mm: length of that return.
    """

    def __init__(self, draws: Draws, feed_mm_s: Array, backoff_mm: Array) -> None:
        rng, shape = draws.rng, feed_mm_s.shape
        delay = feed_mm_s * rng.uniform(0.02, 0.09, shape) + rng.uniform(-0.02, 0.09, shape)
        self.backoff_mm = backoff_mm
        self.delay_mm = np.maximum(delay, 0.02 - backoff_mm[:, None])
        slow = feed_mm_s * rng.uniform(0.06, 0.13, shape)
        self.width_mm = np.maximum(rng.uniform(0.12, 0.4, shape), slow)


def _hide(stack: Stack, plan: _Plan, restart: _Restart) -> Mask:
    """Move a metal that is met while the drive restarts to where the torque returns.

    Nothing can be seen of it earlier: the torque's onset is the return itself. Returns (b,) where.
    """
    rows = np.arange(len(stack.present))
    metal_step = np.argmax(plan.role == Role.METAL, axis=1)
    resume = plan.first_end_mm + restart.delay_mm[rows, metal_step]
    start = stack.start_mm[:, METAL]
    hidden = (
        stack.present[:, FIRST] & stack.present[:, METAL] & plan.on_stroke
        & (start > plan.first_end_mm - 0.02)
        & (start < resume + _HIDDEN_SHARE * restart.width_mm[rows, metal_step])
    )  # fmt: skip
    stack.start_mm[:, METAL] = np.where(hidden, resume, start)
    return np.asarray(hidden)


def _hide_tip(course: Course, role: Array, hidden: Mask) -> None:
    """Where the metal is met unseen, thrust can't rise before the drive is back either."""
    rows = np.flatnonzero(hidden)
    step = np.argmax(role[rows] == Role.METAL, axis=1)
    back = course.resume_mm[rows, step] - course.resume_lead_mm[rows, step]
    tip = course.profile.tip_mm
    tip[rows, 1] = np.maximum(tip[rows, 1], back)


def _run_step(
    course: Course,
    plan: _Plan,
    restart: _Restart,
    step: int,
    *,
    reached: Array,
    over: Mask,
) -> tuple[Array, Mask]:
    """Run one step of every hole; returns how deep each is then, and which are over."""
    role = plan.role[:, step]
    runs = (role != Role.NONE) & ~over
    first = ~course.runs.any(1)
    start = np.where(first, reached, reached - restart.backoff_mm)
    end, code = _stop(course, plan, step, reached)
    # What does not advance is no step.
    end = np.maximum(end, reached + _FEWEST_MM)
    course.runs[:, step] = runs
    course.start_mm[:, step] = start
    course.end_mm[:, step] = end
    course.stop_code[:, step] = code
    course.resume_mm[:, step] = np.where(first, -np.inf, reached + restart.delay_mm[:, step])
    course.resume_width_mm[:, step] = restart.width_mm[:, step]
    over = over | (runs & (end >= plan.end_mm - 1e-6))
    return np.where(runs, np.maximum(end, reached), reached), over


def _stop(course: Course, plan: _Plan, step: int, reached: Array) -> tuple[Array, NDArray[np.intp]]:
    """Where each hole's step ends (b,), and the machine's code for why."""
    role, is_last = plan.role[:, step], plan.last == step
    curves = course.profile.curves
    torque = curves[:, :, TORQUE_FIRST] * course.gain_first[:, step, None].astype(
        np.float32
    ) + curves[:, :, TORQUE_METAL] * course.gain_metal[:, step, None].astype(np.float32)
    at = np.arange(torque.shape[1], dtype=np.float32) * np.float32(STEP_MM)
    ahead = at > (reached + 0.02)[:, None]
    end = plan.end_mm.copy()
    code = plan.end_code.copy()
    rules = (
        (role == Role.APPROACH, torque >= plan.contact_a[:, None], 0.0, StopCode.TORQUE_MAX),
        (
            (role == Role.FIRST) & ~is_last & ~plan.on_stroke,
            torque >= plan.torque_max_a[:, None],
            0.0,
            StopCode.TORQUE_MAX,
        ),
        (
            (role == Role.METAL) & ~is_last,
            (torque < plan.torque_min_a[:, None]) & (at > (course.stack.exit_mm + 0.1)[:, None]),
            plan.runs_on_mm,
            StopCode.TORQUE_MIN,
        ),
    )
    for applies, condition, extra, reason in rules:
        rows = np.flatnonzero(applies)
        met = condition[rows] & ahead[rows]
        found = met.any(1)
        where = np.argmax(met, axis=1) * STEP_MM + np.broadcast_to(extra, len(end))[rows]
        end[rows] = np.where(found, np.minimum(where, end[rows]), end[rows])
        code[rows] = np.where(found, reason, code[rows])
    stroke = (role == Role.FIRST) & ~is_last & plan.on_stroke
    end = np.where(stroke, np.minimum(plan.first_end_mm, end), end)
    return end, np.where(stroke, StopCode.STROKE, code)

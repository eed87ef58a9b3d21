#!/usr/bin/env python3
"""Known answers for server-side optimisers, computed from the papers' formulas, without the project's code.

    python3 generate.py            # writes optimizers.json beside itself
    python3 generate.py --check    # says whether the file is what this script writes

Standard library only. Doubles are Python's; f32 is IEEE 754 binary32 by struct, which rounds to nearest, ties to even. What a
rule remembers is f32, and the model moves by what is remembered, as docs/protocol.md says.
"""

import json
import math
import pathlib
import random
import struct
import sys


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def sign(value):
    return (value > 0) - (value < 0)


def fedavg(p, state, x, delta):
    return None, [f32(a + p["learning_rate"] * d) for a, d in zip(x, delta)]


def fedavgm(p, state, x, delta):
    """Hsu et al. 2019 (arXiv 1909.06335): v <- beta v + delta; x <- x + lr v."""
    v = [f32(p["momentum"] * v + d) for v, d in zip(state["momentum"], delta)]
    return {"momentum": v}, [f32(a + p["learning_rate"] * v) for a, v in zip(x, v)]


def adaptive(second):
    """Reddi et al. 2021 (arXiv 2003.00295), Algorithm 2."""

    def step(p, state, x, delta):
        b1 = p["beta_1"]
        m = [f32(b1 * m + (1.0 - b1) * d) for m, d in zip(state["momentum"], delta)]
        v = [f32(second(p, v, d * d)) for v, d in zip(state["second_moment"], delta)]
        moved = [f32(a + p["learning_rate"] * m / (math.sqrt(v) + p["adaptivity"])) for a, m, v in zip(x, m, v)]
        return {"momentum": m, "second_moment": v}, moved

    return step


adagrad = adaptive(lambda p, v, d2: v + d2)
yogi = adaptive(lambda p, v, d2: v - (1.0 - p["beta_2"]) * d2 * sign(v - d2))
adam = adaptive(lambda p, v, d2: p["beta_2"] * v + (1.0 - p["beta_2"]) * d2)

ADAM = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99, "adaptivity": 1e-3}
OTHER = {"learning_rate": 0.0625, "beta_1": 0.5, "beta_2": 0.75, "adaptivity": 0.25}
ADAGRAD = {"learning_rate": 0.1, "beta_1": 0.0, "adaptivity": 1e-3}
RULES = [
    ("FedAvg", fedavg, {"learning_rate": 1.0}),
    ("FedAvg", fedavg, {"learning_rate": 0.3}),
    ("FedAvgM", fedavgm, {"learning_rate": 1.0, "momentum": 0.9}),
    ("FedAvgM", fedavgm, {"learning_rate": 0.3, "momentum": 0.0}),
    ("FedAdagrad", adagrad, ADAGRAD),
    ("FedAdagrad", adagrad, {**ADAGRAD, "beta_1": 0.9}),
    ("FedYogi", yogi, ADAM),
    ("FedYogi", yogi, OTHER),
    ("FedAdam", adam, ADAM),
    ("FedAdam", adam, OTHER),
]
STEPS, VALUES = 4, 9


def case(number, name, rule, numbers):
    draw = random.Random(number)
    x = [f32(draw.uniform(-2, 2)) for _ in range(VALUES)]
    state = None
    if name == "FedAvgM":
        state = {"momentum": [0.0] * VALUES}
    elif name != "FedAvg":
        state = {"momentum": [0.0] * VALUES, "second_moment": [f32(numbers["adaptivity"] ** 2)] * VALUES}
    steps = []
    for step in range(STEPS):
        # Sizes far apart; a value that never moves; one whose square is v exactly, where Yogi's sign is 0.
        delta = [f32(draw.gauss(0, 1) * 10.0 ** -place) for place in range(VALUES - 2)] + [0.0]
        tau = numbers.get("adaptivity")
        delta.append(tau if step == 0 and tau == 0.25 else f32(draw.gauss(0, 1)))
        before = state
        state, moved = rule(numbers, state, x, delta)
        steps.append({"model": x, "mean": delta, "state": before, "next_state": state, "next_model": moved})
        x = moved
    return {"strategy": name, "numbers": numbers, "steps": steps}


def nova(steps, momentum):
    """Wang et al. 2020 (arXiv 2007.07481): a_i of SGD with momentum, and its 1-norm, term by term."""
    return sum((1 - momentum ** (steps - k)) / (1 - momentum) for k in range(steps))


def main():
    cases = [case(number, *rule) for number, rule in enumerate(RULES)]
    about = "Four steps of each rule. Every number that the rule stores is an f32."
    norms = [{"steps": s, "momentum": m, "norm": nova(s, m)} for s in (1, 2, 7, 40, 1000) for m in (0.0, 0.5, 0.9, 0.99)]
    files = {
        "optimizers.json": {"format": 1, "about": about, "cases": cases},
        "local_steps.json": {"format": 1, "about": "The 1-norm of FedNova's a_i.", "cases": norms},
    }
    for name, content in files.items():
        text = json.dumps(content, indent=1) + "\n"
        path = pathlib.Path(__file__).with_name(name)
        if "--check" in sys.argv:
            if path.read_text() != text:
                sys.exit(f"{path} is not what this script writes")
        else:
            path.write_text(text)


main()

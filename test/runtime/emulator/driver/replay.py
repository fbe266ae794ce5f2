#!/usr/bin/env python3
"""Judges the orders in which work of independent streams runs: replay.py PROGRAM (Order.c).

One seed gives one order, every time. Seeds, and the schedules early and late, give different ones. All keep what the API
promises: the order of each stream, what an event orders, and that a wait for a stream waits for all of it.
"""

import os
import subprocess
import sys


def run(program, **settings):
    environment = dict(os.environ, **{f"MOE_EMU_{key.upper()}": str(value) for key, value in settings.items()})
    return subprocess.run([program], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def check(order):
    flat = order.replace("|", "")
    assert len(flat) == 40 and all(flat.count(name) == 10 for name in "ABCD"), order
    assert order.index("|") > order.rindex("B"), f"the wait for B came back early: {order}"
    sixth_of_d = [i for i, name in enumerate(flat) if name == "D"][5]
    fifth_of_a = [i for i, name in enumerate(flat) if name == "A"][4]
    assert fifth_of_a < sixth_of_d, f"the event did not order D after A: {order}"


def main():
    program = sys.argv[1]
    orders = {}
    for seed in range(8):
        orders[seed] = run(program, seed=seed, schedule="random")
        assert orders[seed] == run(program, seed=seed, schedule="random"), f"seed {seed} does not replay"
    early, late = run(program, schedule="early"), run(program, schedule="late")
    for order in [*orders.values(), early, late]:
        check(order)
    assert len(set(orders.values())) >= 6, f"seeds make little difference: {orders}"
    assert early.startswith("ABCDABCD"), f"early waits: {early}"
    # Late runs what the first wait needs, and nothing else.
    assert set(late[: late.index("|")]) == {"B"}, f"late hurries: {late}"
    print(f"{len(set(orders.values()))} orders of 8 seeds, all right")


if __name__ == "__main__":
    main()

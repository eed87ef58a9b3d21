"""Measures the accountants of dp-accounting 0.6.0 at what `cargo bench -p sordino-dp` measures of ours.

One JSON object goes to standard output. Times are CPU seconds of this process, the best of some repetitions, with one
thread for BLAS; the import is not in them. Every figure is one question as a user would ask it: a new accountant, its
default orders or grid, one answer.
"""

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import json
import logging
import sys
import time

WANTED = "0.6.0"


def skip(why):
    json.dump({"skipped": why}, sys.stdout)
    sys.exit(0)


try:
    from importlib.metadata import version

    VERSION = version("dp-accounting")
    if VERSION != WANTED:
        skip(f"dp-accounting {VERSION} is installed, {WANTED} is what is compared with")
    import dp_accounting as dp
    from dp_accounting import mechanism_calibration
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant
except ImportError as error:
    skip(str(error))

logging.disable(logging.CRITICAL)


def sampled(q, sigma, steps=1):
    event = dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(sigma))
    return dp.SelfComposedDpEvent(event, steps)


def epsilon(accountant, event, delta):
    return accountant().compose(event).get_epsilon(delta)


def timed(question, repeats):
    best, answer = float("inf"), None
    for _ in range(repeats):
        before = time.process_time()
        answer = question()
        best = min(best, time.process_time() - before)
    return {"seconds": best, "answer": answer}


def reserved(rounds):
    """Asks what is spent after each of some rounds with different noise."""
    accountant = RdpAccountant()
    for at in range(rounds):
        accountant.compose(sampled(0.01, 1.0 + at * 1e-4))
        answer = accountant.get_epsilon(1e-5)
    return answer


def calibrated(accountant):
    def event(sigma):
        return sampled(0.01, sigma, 1000)

    return mechanism_calibration.calibrate_dp_mechanism(accountant, event, 2.0, 1e-5)


ROUNDS = 40
results = {
    "version": VERSION,
    "renyi": timed(lambda: epsilon(RdpAccountant, sampled(0.01, 1.0, 1000), 1e-5), 5),
    "renyi_half": timed(lambda: epsilon(RdpAccountant, sampled(0.5, 10.0, 300), 1e-5), 3),
    "rounds": timed(lambda: reserved(ROUNDS), 1),
    "pld_thousand": timed(lambda: epsilon(PLDAccountant, sampled(0.01, 1.0, 1000), 1e-5), 2),
    "pld_million": timed(lambda: epsilon(PLDAccountant, sampled(1e-4, 1.0, 1_000_000), 1e-6), 2),
    "calibrate_renyi": timed(lambda: calibrated(RdpAccountant), 2),
    "calibrate_pld": timed(lambda: calibrated(PLDAccountant), 1),
}
results["rounds"]["seconds"] /= ROUNDS
json.dump(results, sys.stdout)

"""Measures the rules of byzfl 0.0.11 on NumPy at what `cargo bench -p sordino-robust` measures of ours.

One JSON object goes to standard output: CPU seconds of this process for each rule, the best of some repetitions, with one
thread for BLAS; the import and the making of data are not in them. Rows are float32, [clients][dimension].

Only byzfl's aggregators are imported: its package would import PyTorch's vision models as well. They name PyTorch's tensors,
of which there are none here; where it is not installed, an empty module stands in for it.
"""

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import importlib.util
import json
import sys
import time
import types

WANTED = "0.0.11"
CLIENTS, DIMENSION, BYZANTINE = (int(value) for value in sys.argv[1:4])
# Stages that make a copy of n - f rows for each row: measured on fewer columns, and told as for all; cost is linear in them.
SLICE = 20


def skip(why):
    json.dump({"skipped": why}, sys.stdout)
    sys.exit(0)


def absent_torch():
    torch, linalg = types.ModuleType("torch"), types.ModuleType("torch.linalg")
    torch.Tensor, torch.linalg, torch.__path__ = type("Tensor", (), {}), linalg, []
    sys.modules.update({"torch": torch, "torch.linalg": linalg})


try:
    from importlib.metadata import version

    VERSION = version("byzfl")
    if VERSION != WANTED:
        skip(f"byzfl {VERSION} is installed, {WANTED} is what is compared with")
    import numpy as np

    if importlib.util.find_spec("torch") is None:
        absent_torch()
    package = types.ModuleType("byzfl")
    package.__path__ = importlib.util.find_spec("byzfl").submodule_search_locations
    sys.modules["byzfl"] = package
    from byzfl.aggregators.aggregators import Average, CenteredClipping, GeometricMedian, Krum, Meamed, Median, MultiKrum, TrMean
    from byzfl.aggregators.preaggregators import ARC, NNM, Bucketing
except (ImportError, ModuleNotFoundError) as error:
    skip(str(error))


def rows():
    draw = np.random.default_rng(1)
    truth = draw.standard_normal(DIMENSION, dtype=np.float32)
    made = draw.standard_normal((CLIENTS, DIMENSION), dtype=np.float32)
    made += truth
    return made


def timed(work, repeats=2):
    best = float("inf")
    for _ in range(repeats):
        before = time.process_time()
        work()
        best = min(best, time.process_time() - before)
    return best


def behind(stage, rule):
    return lambda of: rule(stage(of))


ROWS = rows()
F = BYZANTINE
TAU = float(np.median(np.linalg.norm(ROWS, axis=1)))
results = {
    "version": VERSION,
    "numpy": np.__version__,
    "mean": timed(lambda: Average()(ROWS), 3),
    "median": timed(lambda: Median()(ROWS)),
    "trimmed_mean": timed(lambda: TrMean(f=F)(ROWS)),
    "mean_around_median": timed(lambda: Meamed(f=F)(ROWS), 1),
    "krum": timed(lambda: Krum(f=F)(ROWS)),
    "multi_krum": timed(lambda: MultiKrum(f=F)(ROWS)),
    "geometric_median": timed(lambda: GeometricMedian(nu=1e-6, T=3)(ROWS)),
    "centered_clipping": timed(lambda: CenteredClipping(L=3, tau=TAU)(ROWS)),
    # It overwrites the rows it is given.
    "adaptive_clip_mean": timed(lambda: behind(ARC(f=F), Average())(ROWS.copy()), 1),
    "bucketing_median": timed(lambda: behind(Bucketing(s=2), Median())(ROWS)),
}
ROWS = np.ascontiguousarray(ROWS[:, : max(1, DIMENSION // SLICE)])
whole = DIMENSION / ROWS.shape[1]
results["nnm_trimmed_mean"] = whole * timed(lambda: behind(NNM(f=F), TrMean(f=F))(ROWS), 1)
results["nnm_median"] = whole * timed(lambda: behind(NNM(f=F), Median())(ROWS), 1)
json.dump(results, sys.stdout)

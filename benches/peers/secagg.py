"""Measures SecAgg+ as Flower 1.42 has it: its own client and workflow functions, called as its runtime calls them.

One JSON object goes to standard output, progress to standard error. Times are CPU seconds of this process, pinned to
one core: Flower deals and combines shares in a thread pool, whose threads a per-thread clock would miss.

What is called:
  masking      client.mod.secure_aggregation.secaggplus_mod._collect_masked_vectors; quantization, which belongs to
               encoding, is measured apart so that it can be taken off
  share_keys   client.mod.secure_aggregation.secaggplus_mod._share_keys
  unmask       server.workflow.SecAggPlusWorkflow, all four stages over `secaggplus_mod`; the figure is its
               unmask_stage without the time in which clients answer. The aggregate is compared with the plain mean.

Flower counts a participant among its own neighbours: `num_shares = 21` are 20 neighbours and itself.
"""

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import argparse
import json
import logging
import sys
import time
from types import SimpleNamespace

WANTED = "1.42"


def note(line):
    print(f"flwr: {line}", file=sys.stderr, flush=True)


def skip(why):
    json.dump({"skipped": why}, sys.stdout)
    sys.exit(0)


try:
    from importlib import import_module
    from importlib.metadata import version

    VERSION = version("flwr")
    if not VERSION.startswith(WANTED + "."):
        skip(f"flwr {VERSION} is installed, {WANTED} is what is compared with")
    import numpy as np
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.common import (
        Code,
        FitIns,
        FitRes,
        Status,
        ndarrays_to_parameters,
        parameters_to_ndarrays,
    )
    from flwr.common.secure_aggregation.ndarrays_arithmetic import factor_combine, parameters_multiply
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
    from flwr.compat.common import recorddict_compat as compat
    from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
    from flwr.server.workflow.constant import Key as WorkflowKey
    from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow, WorkflowState
    from flwr.supercore.task_identity import TaskIdentity

    # Its package has a function of the same name, which an ordinary import would find.
    client = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
except ImportError as error:
    skip(f"flwr {WANTED} cannot be imported: {error}")

# Flower's own defaults (SecAggPlusWorkflow.__init__).
CLIPPING_RANGE = 8.0
TARGET_RANGE = 1 << 22
MOD_RANGE = 1 << 32
MAX_WEIGHT = 1000.0
# Every participant's weight: the mean is then the plain one.
EXAMPLES = 500


def cpu(work):
    """The result of `work` and the CPU seconds that it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def best(repeats, work):
    """The least CPU seconds of some repetitions: whatever disturbs makes it slower."""
    return min(cpu(work)[1] for _ in range(repeats))


def payload_bytes(values):
    """Bytes of a client's answer: its byte strings, and 8 for each id. Envelopes are left out."""
    if isinstance(values, bytes):
        return len(values)
    if isinstance(values, (list, tuple)):
        return sum(payload_bytes(value) for value in values)
    return 8


def up(answer):
    return sum(payload_bytes(value) for value in answer.values())


def neighbourhood(size, threshold):
    """`size` participants that are all neighbours, each with its keys."""
    states, keys = {}, {}
    configs = {
        Key.SAMPLE_NUMBER: size,
        Key.SHARE_NUMBER: size,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIPPING_RANGE,
        Key.TARGET_RANGE: TARGET_RANGE,
        Key.MOD_RANGE: MOD_RANGE,
        Key.MAX_WEIGHT: MAX_WEIGHT,
    }
    for nid in range(1, size + 1):
        state = client.SecAggPlusState(nid=nid)
        answer = client._setup(state, configs)
        states[nid], keys[str(nid)] = state, [answer[Key.PUBLIC_KEY_1], answer[Key.PUBLIC_KEY_2]]
    return states, keys


def masking(neighbours, threshold, dim, repeats):
    note(f"masking, {neighbours} neighbours, {dim} values")
    states, keys = neighbourhood(neighbours + 1, threshold)
    sources, ciphertexts = [], []
    for nid, state in states.items():
        answer = client._share_keys(state, keys)
        if nid != 1:
            sources.append(nid)
            ciphertexts.append(answer[Key.CIPHERTEXT_LIST][answer[Key.DESTINATION_LIST].index(1)])
    values = [np.random.default_rng(1).uniform(-1, 1, dim)]
    parameters = ndarrays_to_parameters(values)
    configs = {Key.CIPHERTEXT_LIST: ciphertexts, Key.SOURCE_LIST: sources}
    stage = best(repeats, lambda: client._collect_masked_vectors(states[1], configs, EXAMPLES, parameters))

    def encode():
        scaled = parameters_multiply(parameters_to_ndarrays(parameters), EXAMPLES / MAX_WEIGHT)
        return factor_combine(EXAMPLES, quantize(scaled, CLIPPING_RANGE, TARGET_RANGE))

    quantization = best(repeats, encode)
    return {
        "neighbours": neighbours,
        "dim": dim,
        "stage_seconds": stage,
        "quantization_seconds": quantization,
        "seconds": stage - quantization,
    }


def share_keys(neighbours, threshold, repeats):
    note(f"share keys, {neighbours} neighbours, threshold {threshold}")
    states, keys = neighbourhood(neighbours + 1, threshold)
    seconds = best(repeats, lambda: client._share_keys(states[1], keys))
    return {"neighbours": neighbours, "threshold": threshold, "seconds": seconds}


class Cohort:
    """Stands where Flower's grid stands: hands every message to its client, without a wire, and some are silent."""

    def __init__(self, participants, dim, silent):
        self.contexts = {
            nid: Context(run_id=1, node_id=nid, node_config={}, state=RecordDict(), run_config={})
            for nid in range(1, participants + 1)
        }
        self.dim, self.silent = dim, silent
        self.up = dict.fromkeys(self.contexts, 0)
        self.seconds = 0.0

    def input(self, nid):
        return np.random.default_rng(nid).uniform(-1, 1, self.dim)

    def train(self, msg, _context):
        parameters = ndarrays_to_parameters([self.input(msg.metadata.dst_node_id)])
        result = FitRes(Status(Code.OK, ""), parameters, EXAMPLES, {})
        return Message(compat.fitres_to_recorddict(result, False), reply_to=msg)

    def send_and_receive(self, messages, *, timeout=None):
        del timeout
        answers, seconds = cpu(lambda: [self.answer(msg) for msg in messages])
        self.seconds += seconds
        return [msg for msg in answers if msg is not None]

    def answer(self, msg):
        nid = msg.metadata.dst_node_id
        stage = msg.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if nid in self.silent and stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK):
            return None
        # A client gets a copy of its own: the workflow sends one object to everybody.
        content = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(dict(msg.content.config_records[RECORD_KEY_CONFIGS]))})
        own = Message(content, dst_node_id=nid, message_type=msg.metadata.message_type)
        answer = client.secaggplus_mod(own, self.contexts[nid], self.train)
        self.up[nid] += up(answer.content.config_records[RECORD_KEY_CONFIGS])
        return answer


def unmask(participants, shares, threshold, dim, dropouts):
    note(f"unmask, {participants} participants, {shares} shares, {dim} values, {dropouts} silent")
    silent = set(range(1, participants + 1, participants // dropouts)) if dropouts else set()
    silent = set(sorted(silent)[:dropouts])
    cohort = Cohort(participants, dim, silent)
    empty = ndarrays_to_parameters([np.zeros(1)])
    released = []

    def aggregate(_round, results, _failures):
        released.append(results[0][1].parameters)
        return None, {}

    context = SimpleNamespace(
        state=RecordDict(
            {
                MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: 1}),
                MAIN_PARAMS_RECORD: compat.parameters_to_arrayrecord(empty, True),
            }
        ),
        client_manager=SimpleNamespace(num_available=lambda: participants),
        strategy=SimpleNamespace(
            configure_fit=lambda *_: [(SimpleNamespace(node_id=nid), FitIns(empty, {})) for nid in cohort.contexts],
            aggregate_fit=aggregate,
        ),
    )
    workflow = SecAggPlusWorkflow(shares, threshold)
    state = WorkflowState()
    seconds = {}
    for name, stage in (
        ("setup", workflow.setup_stage),
        ("share_keys", workflow.share_keys_stage),
        ("collect", workflow.collect_masked_vectors_stage),
        ("unmask", workflow.unmask_stage),
    ):
        answering = cohort.seconds
        went_on, whole = cpu(lambda stage=stage: stage(cohort, context, state))
        if not went_on:
            raise RuntimeError(f"flwr gave up in the stage {name}")
        seconds[name] = whole - (cohort.seconds - answering)
        note(f"  {name}: {seconds[name]:.2f} s, and clients {cohort.seconds - answering:.2f} s")
    survivors = [nid for nid in cohort.contexts if nid not in silent]
    mean = sum(cohort.input(nid) for nid in survivors) / len(survivors)
    (aggregate_values,) = parameters_to_ndarrays(released[0])
    # A step of the quantization for each of them, over the weight that the sum is divided by.
    error = float(np.abs(aggregate_values - mean).max())
    if error > 4 * CLIPPING_RANGE / TARGET_RANGE * MAX_WEIGHT / EXAMPLES:
        raise RuntimeError(f"flwr's aggregate is off by {error}")
    return {
        "participants": participants,
        "neighbours": shares - 1,
        "threshold": threshold,
        "dim": dim,
        "dropouts": len(silent),
        "seconds": seconds["unmask"],
        "server_seconds": seconds,
        "bytes_up": max(cohort.up[nid] for nid in survivors),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=1_000_000, help="values of the vector")
    parser.add_argument("--mask-neighbours", type=int, default=21)
    parser.add_argument("--share-neighbours", type=int, default=100)
    parser.add_argument("--share-threshold", type=int, default=51)
    parser.add_argument("--participants", type=int, default=100, help="cohort that is unmasked")
    parser.add_argument("--dropouts", type=int, default=10)
    parser.add_argument(
        "--unmask",
        default="21:11,29:15",
        help="num_shares:threshold of each cohort that is unmasked (num_shares counts the participant itself)",
    )
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def main():
    logging.getLogger("flwr").setLevel(logging.ERROR)
    asked = arguments()
    # Flower's runtime says who a process is; here one process is everybody.
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cohorts = [[int(part) for part in pair.split(":")] for pair in asked.unmask.split(",")]
    report = {
        "flwr": VERSION,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "masking": masking(asked.mask_neighbours, asked.mask_neighbours // 2 + 1, asked.dim, asked.repeats),
        # Slow: seconds each.
        "share_keys": share_keys(asked.share_neighbours, asked.share_threshold, min(asked.repeats, 3)),
        "unmask": [
            unmask(asked.participants, shares, threshold, asked.dim, asked.dropouts) for shares, threshold in cohorts
        ],
    }
    json.dump(report, sys.stdout)
    print()


if __name__ == "__main__":
    main()

"""From a model file and a policy to a vector of integers: "The policy" and "The input" in docs/protocol.md."""

import json
import math
import secrets
from hashlib import sha256

import numpy as np

from .attempt import Refusal

SUM_MAX = 2**53
TRIES_MAX = 128
MODEL_BYTES_MAX = 2**30
_COINS = 2.0**64

_POLICY = {
    "task": ["name", "kind", "visibility", "rounds", "strategy"],
    "cohort": ["min", "target", "max_dropout_fraction", "max_corrupt_fraction"],
    "privacy": [
        "enabled", "unit", "population", "data_version", "total_epsilon", "delta", "clip_norm", "noise_multiplier",
        "target_epsilon", "metric_noise_multiplier", "schedule", "amplification", "noise", "max_effective_bound", "example_clip",
        "sampling_rate", "steps",
    ],  # fmt: skip
    "robustness": ["proof", "max_norm", "groups"],
    "masking": ["pq", "prg"],
    "encoding": ["precision_bits", "max_weight", "metrics"],
    "timing": ["gather", "participant_timeout", "round_timeout", "step_timeout", "step_grace"],
    "training": ["local_epochs", "batch_size", "learning_rate", "momentum"],
}
_METRIC = ["name", "max", "resolution", "record_max"]
# Left out of a policy that does not set them.
_OPTIONAL = {"noise_multiplier", "target_epsilon", "steps"}


class _Written(float):
    """A number that remembers how it was written."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        number.text = text
        return number


def read_json(text):
    """JSON whose fractions keep their digits, so that they can be written as they came."""
    return json.loads(text, parse_float=_Written)


def _canonical(value, keys):
    """JSON without spaces, the keys of an object in the order that the description gives them."""
    if isinstance(value, dict):
        members = keys if isinstance(keys, dict) else dict.fromkeys(keys)
        members = {key: inner for key, inner in members.items() if key in value or key not in _OPTIONAL}
        if set(value) != set(members):
            raise Refusal(f"a policy with the keys {sorted(value)}, known are {sorted(members)}")
        inner = (f"{json.dumps(key)}:{_canonical(value[key], members[key])}" for key in members)
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_canonical(item, _METRIC) for item in value) + "]"
    if isinstance(value, _Written):
        return value.text
    return json.dumps(value, ensure_ascii=False)


def policy_digest(policy):
    return sha256(_canonical(policy, _POLICY).encode()).digest()


def check_policy(policy):
    """What this implementation can do; anything else is refused by name."""
    wanted = [("task", "kind", "model"), ("task", "visibility", "masked"), ("task", "strategy", "FedAvg"),
              ("privacy", "enabled", False), ("robustness", "proof", "none"), ("robustness", "groups", 1)]  # fmt: skip
    for section, key, value in wanted:
        if policy[section][key] != value:
            raise Refusal(f"the policy asks for {section}.{key} = {policy[section][key]}")


def model_values(data):
    """The values of a safetensors file of F32 tensors, in the order of the tensors' names."""
    if not 8 <= len(data) <= MODEL_BYTES_MAX:
        raise Refusal(f"a model file of {len(data)} bytes")
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise Refusal("a model file that is cut short")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    tensors = sorted(header.items(), key=lambda item: item[0].encode())
    parts = []
    for name, tensor in tensors:
        begin, end = tensor["data_offsets"]
        part = values[begin:end]
        if tensor["dtype"] != "F32" or len(part) != 4 * math.prod(tensor["shape"]):
            raise Refusal(f"tensor {name!r} cannot be read")
        parts.append(np.frombuffer(part, dtype="<f4"))
    if sum(len(part) * 4 for part in parts) != len(values):
        raise Refusal("a model file with holes, or tensors that overlap")
    return np.concatenate(parts)


class Encoding:
    """Grid, bounds and ring, from the policy and the length of the model."""

    def __init__(self, policy, model_len):
        encoding, self.cohort_max = policy["encoding"], policy["cohort"]["target"]
        self.clip_norm = min(policy["privacy"]["clip_norm"], policy["robustness"]["max_norm"])
        self.max_weight = encoding["max_weight"]
        self.metrics, self.model_len = encoding["metrics"], model_len
        mantissa, exponent = math.frexp(self.clip_norm * self.max_weight)
        ceil_log2 = exponent - 1 if mantissa == 0.5 else exponent
        self.step = math.ldexp(1.0, ceil_log2 - encoding["precision_bits"])
        self.metric_bounds = [math.ceil(metric["max"] / metric["resolution"]) for metric in self.metrics]
        entry_max = math.isqrt(self.norm_bound(self.max_weight))
        largest = max(entry_max, self.max_weight, *self.metric_bounds)
        if largest * self.cohort_max > SUM_MAX:
            raise Refusal("the sums of this policy are not exact")
        self.bits = (largest * self.cohort_max).bit_length() + 1
        self.vector_len = model_len + 1 + len(self.metrics)

    def norm_bound(self, weight):
        """The square of the largest norm, in steps, of an input with this weight."""
        c, d = weight * self.clip_norm / self.step, float(self.model_len)
        return int(c * c + d / 4.0 + (c + math.sqrt(d) / 2.0))

    def encode(self, update, weight, metrics):
        """The integers of an input.

        - `update`: float32, as many as the model has.
        - `weight`: at least 1.
        - `metrics`: values by name.
        """
        assert len(update) == self.model_len and np.isfinite(update).all() and weight >= 1
        used = min(weight, self.max_weight)
        update = update.astype(np.float64)
        norm = math.sqrt(float((update * update).sum()))
        factor = self.clip_norm / norm if norm > self.clip_norm else 1.0
        scaled = update * (factor * (used / self.step))
        for _ in range(TRIES_MAX):
            integers = _rounded(scaled)
            if sum(integer * integer for integer in integers) <= self.norm_bound(used):
                break
        else:
            raise RuntimeError("the randomness is not random")
        integers.append(used)
        for metric, bound in zip(self.metrics, self.metric_bounds):
            value = min(max(float(metrics[metric["name"]]), 0.0), metric["max"])
            [rounded] = _rounded(np.array([value / metric["resolution"]]))
            integers.append(min(rounded, bound))
        return integers


def _rounded(values):
    """Stochastically: up with the probability of the fraction."""
    floors = np.floor(values)
    coins = np.frombuffer(secrets.token_bytes(8 * len(values)), dtype="<u8")
    up = coins.astype(np.float64) < (values - floors) * _COINS
    return [int(value) for value in floors + up]

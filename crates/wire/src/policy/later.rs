//! What the design has and this version does not: keys and values that people will ask for, refused by name instead of
//! as a slip of the pen. A key that is in no list here is unknown.

use super::PolicyError;
use serde::Serialize;
use toml::{Table, Value};

/// A key that a later version will read.
struct Later {
    section: &'static str,
    key: &'static str,
    /// With its section, as people name it.
    name: &'static str,
    instead: &'static str,
}

macro_rules! later {
    ($($section:literal . $key:literal => $instead:expr,)*) => {
        [$(Later { section: $section, key: $key, name: concat!($section, ".", $key), instead: $instead },)*]
    };
}

/// In the order in which they are told.
const LATER: [Later; 3] = later! {
    "robustness"."pipeline" => "leave it out: the coordinator sees sums only and has no single update to judge",
    "robustness"."group_size" => ONE_GROUP,
    "robustness"."max_flag_fraction" => "leave it out: nothing flags a participant",
};

const ONE_GROUP: &str = "leave it out: all participants are in one group";

/// Strategies of later versions, as their papers name them.
const STRATEGIES: [&str; 10] =
    ["FedNova", "SCAFFOLD", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "RFA", "FLTrust", "DnC"];

/// Refuses the first thing that a later version will do.
pub(super) fn refuse(policy: &Table) -> Result<(), PolicyError> {
    let value = |section: &str, key: &str| policy.get(section).and_then(Value::as_table).and_then(|keys| keys.get(key));
    if let Some(strategy) = value("task", "strategy")
        && strategy.as_str().is_some_and(|name| STRATEGIES.contains(&name))
    {
        return Err(not_yet("task.strategy", strategy, "use \"FedAvg\""));
    }
    for Later { section, key, name, instead } in LATER {
        if let Some(value) = value(section, key) {
            return Err(not_yet(name, value, instead));
        }
    }
    Ok(())
}

/// The refusal of `key = value`, the value spelled as in the policy.
pub(super) fn not_yet(key: &'static str, value: &impl Serialize, instead: &'static str) -> PolicyError {
    let spelled = Value::try_from(value).map(|value| value.to_string()).unwrap_or_default();
    let short = match spelled.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &spelled[..end]),
        None => spelled,
    };
    PolicyError::NotYet { key, value: short.replace('\n', " "), instead }
}

/// Characters of a value that a refusal repeats.
const VALUE_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;

    /// A policy with everything that the design has.
    const WHOLE: &str = r#"
[task]
name = "sepsis-mlp"
kind = "model"                # model | signal
visibility = "masked"         # masked | sealed | open
rounds = 50
strategy = "FedAvg"

[cohort]
min = 8                       # below it a round does not start, and nothing opens
target = 10
max_dropout_fraction = 0.2
max_corrupt_fraction = 0.2

[privacy]
total_epsilon = 10.0
delta = 1e-5
clip_norm = 1.0               # of an update; example_clip = 1.0 for unit = "record"
target_epsilon = 10.0         # over all rounds: the noise is calibrated; or noise_multiplier = 1.1
unit = "record"               # record | participant
noise = "coordinator"         # for unit = "participant": participants | coordinator

[robustness]
max_norm = 100.0
proof = "transparent"         # none | transparent | groth16-standard | groth16-enhanced | groth16-maximum
groups = 1
pipeline = ["checks"]         # open: ["checks", "detect", "nnm", "trimmed-mean"]
"#;

    fn refusal(text: &str) -> String {
        Policy::from_toml(text).and_then(Policy::check).expect_err("a refusal").to_string()
    }

    /// What is refused in the policy's order, each taken out after it was named; what is left can work.
    #[test]
    fn a_policy_with_everything_is_led_to_one_that_works() {
        let mut text = WHOLE.to_owned();
        let refused = refusal(&text);
        assert!(refused.contains("robustness.pipeline = "), "{refused}");
        assert!(refused.contains("is not in this version yet"), "{refused}");
        assert!(!refused.contains("unknown") && !refused.contains('\n'), "{refused}");
        text = text.lines().filter(|line| !line.starts_with("pipeline =")).map(|line| line.to_owned() + "\n").collect();
        assert!(Policy::from_toml(&text).and_then(Policy::check).is_ok());
    }

    #[test]
    fn every_later_key_and_strategy_is_refused_with_what_to_do() {
        const PLAIN: &str = "[task]\nname = \"a\"\nrounds = 1\n";
        for Later { section, key, name, instead } in LATER {
            let refused = refusal(&format!("{PLAIN}[{section}]\n{key} = \"x\"\n"));
            assert_eq!(refused, format!("{name} = \"x\" is not in this version yet; {instead}"));
        }
        for strategy in STRATEGIES {
            let refused = refusal(&format!("{PLAIN}strategy = \"{strategy}\"\n"));
            let told = format!("task.strategy = \"{strategy}\" is not in this version yet; use \"FedAvg\"");
            assert_eq!(refused, told);
        }
        let refused = refusal(&format!("{PLAIN}strategy = \"FedAwg\"\n"));
        assert!(refused.contains("FedAwg") && !refused.contains("yet"), "{refused}");
        let refused = refusal(&format!("{PLAIN}[privacy]\nepsilonn = 3\n"));
        assert!(refused.contains("epsilonn") && !refused.contains("yet"), "{refused}");
    }

    #[test]
    fn a_refusal_does_not_repeat_a_long_value() {
        let text = format!("[robustness]\npipeline = [{}]\n", "\"checks\", ".repeat(1_000));
        let refused = refusal(&text);
        assert!(refused.contains("...") && refused.len() < 300, "{refused}");
    }
}

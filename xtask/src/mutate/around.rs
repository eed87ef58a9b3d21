//! Mutants around the protocol: packed vectors, what a site remembers, and the shells that store and answer.

use super::mutants::{Edit, Mutant, Test, in_program, secagg, unit};

/// Packed vectors, without the protocol.
const fn packing(name: &'static str) -> Test {
    in_program("sordino-codec", &["--test", "packing"], name)
}

const fn codec(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "codec", find, replace }
}

/// Coordinator and sites over real sockets.
const fn rounds(name: &'static str) -> Test {
    in_program("sordino-coordinator", &["--test", "rounds"], name)
}

/// Sites and a coordinator that are killed, as processes of their own.
const fn boundaries(name: &'static str) -> Test {
    in_program("sordino", &["--test", "boundaries"], name)
}

const fn site(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "participant", find, replace }
}

const fn coordinator(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "coordinator", find, replace }
}

const fn store(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "store", find, replace }
}

/// All of these.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the registrar signs two rosters of an attempt",
        edits: &[store(
            "let same = signed.is_some_and(|(signed, _)| signed == *roster);",
            "let same = signed.is_some_and(|(signed, _)| signed.len() == roster.len());",
        )],
        tests: &[rounds("registrar::an_attempt_has_one_roster_and_one_survivor_list")],
    },
    Mutant {
        name: "the registrar signs two survivor lists of an attempt",
        edits: &[store("Ok(if before == *survivors {", "Ok(if before.len() == survivors.len() {")],
        tests: &[rounds("registrar::an_attempt_has_one_roster_and_one_survivor_list")],
    },
    Mutant {
        name: "the registrar signs survivors of a roster that it did not sign",
        edits: &[coordinator(
            "Signing::NoSuchRoster => Err(RegistrarError::NotItsRoster),",
            "Signing::NoSuchRoster => Ok(()),",
        )],
        tests: &[rounds("registrar::an_attempt_has_one_roster_and_one_survivor_list")],
    },
    Mutant {
        name: "complaints do not reach the store",
        edits: &[coordinator("let disputes = core.disputes();", "let disputes: Vec<Dispute> = Vec::new();")],
        tests: &[rounds("standing::who_complains_is_kept_apart_from_whom_it_accuses")],
    },
    Mutant {
        name: "a cohort holds both sides of a dispute",
        edits: &[coordinator(
            "let by_chance = self.disputes.apart(ranked.iter().cloned());",
            "let by_chance = ranked.clone();",
        )],
        tests: &[rounds("standing::a_cohort_holds_no_culprit_and_no_two_in_dispute")],
    },
    Mutant {
        name: "a site trains for rounds that the task cannot have",
        edits: &[site("if !(1..=rounds).contains(&round) {", "if round == 0 {")],
        tests: &[rounds("lies::overlap::a_second_sum_of_one_round_gets_no_help_whatever_its_model")],
    },
    Mutant {
        name: "bits behind the last packed value are not looked at",
        edits: &[codec("Some(last) if tail != 0 && last >> tail != 0 =>", "Some(last) if tail > 8 && last != 0 =>")],
        tests: &[packing("bits_behind_the_last_value_must_be_zero")],
    },
    Mutant {
        name: "a packed vector may end early",
        edits: &[codec(
            r#"        if self.remaining() > 0 {
            return Err(self.wrong_length(self.received));
        }"#,
            "",
        )],
        tests: &[packing("missing_and_extra_bytes_are_refused")],
    },
    Mutant {
        name: "a packed vector may be longer than it is",
        edits: &[codec(
            r#"        if chunk.len() > self.remaining() {
            return Err(self.wrong_length(self.received.saturating_add(chunk.len())));
        }"#,
            "",
        )],
        tests: &[packing("missing_and_extra_bytes_are_refused")],
    },
    Mutant {
        name: "a sum that no honest inputs have is decoded",
        edits: &[codec("if squared <= limit {", "if squared <= limit || !integers.is_empty() {")],
        tests: &[in_program("sordino-codec", &["--test", "encoding"], "sums_that_no_honest_inputs_have_are_refused")],
    },
    Mutant {
        name: "sums of one round are not counted",
        edits: &[secagg(
            "        of_round.check(Counted::Round(newest), &reveal.attempt, max)?;\n",
            "        of_round.check(Counted::Round(newest), &reveal.attempt, max.max(99))?;\n",
        )],
        tests: &[unit("participant::exposure::tests::attempts_of_one_round_are_counted_whatever_their_models")],
    },
    Mutant {
        name: "a round that is over is taken part in again",
        edits: &[secagg(
            "            Some((_, newest, _)) if *newest > reveal.round => {",
            "            Some((_, newest, _)) if *newest > reveal.round && max == 0 => {",
        )],
        tests: &[unit("participant::exposure::tests::rounds_times_the_limit_is_all_that_a_task_gets")],
    },
    Mutant {
        name: "a site does not look at what it has revealed before",
        edits: &[site(
            "if let Err(refusal) = exposure.check((&job.context).into(), self.settings.max_sums_per_model) {",
            "if let Err(refusal) = exposure.check((&job.context).into(), u32::MAX) {",
        )],
        tests: &[
            rounds("lies::overlap::a_second_sum_over_one_model_gets_no_help"),
            rounds("lies::overlap::a_second_sum_of_one_round_gets_no_help_whatever_its_model"),
        ],
    },
    Mutant {
        name: "a site reveals shares without a note of it",
        edits: &[site("self.state.expose(self.reveal(*stored.attempt()))?;", "")],
        tests: &[
            rounds("lies::overlap::a_second_sum_over_one_model_gets_no_help"),
            rounds("lies::overlap::a_second_sum_of_one_round_gets_no_help_whatever_its_model"),
        ],
    },
    Mutant {
        name: "a site sends what it has not stored",
        edits: &[site("self.state.save(self.assignment, self.model_len, &stored.to_bytes())?;", "")],
        tests: &[boundaries("a_site_is_killed_at_a_boundary")],
    },
    Mutant {
        name: "a site forgets the policy that it agreed to",
        edits: &[site(
            "            (None, Some(first)) if first != now => Err(TrainError::PolicyChanged { first, now }),\n",
            "",
        )],
        tests: &[rounds("lies::a_policy_that_changed_is_refused")],
    },
    Mutant {
        name: "a site takes part whatever policy was named to it",
        edits: &[site(
            "            (Some(named), _) if named != now => Err(TrainError::NotTheNamedPolicy { named, found: now }),\n",
            "",
        )],
        tests: &[rounds("lies::a_policy_that_changed_is_refused")],
    },
    Mutant {
        name: "a site takes part in smaller cohorts than it asks for",
        edits: &[site("            _ if min < floor => Err(TrainError::WeakPolicy { min, floor }),\n", "")],
        tests: &[rounds("lies::a_policy_that_is_too_weak_is_refused")],
    },
    Mutant {
        name: "the coordinator answers before a message is stored",
        edits: &[coordinator(
            r#"        self.durable(durable).await?;
        crash_point!("{step}:stored");"#,
            "        drop(durable);",
        )],
        tests: &[rounds("hostile::what_cannot_be_stored_does_not_count_and_can_be_sent_again")],
    },
];

//! Mutants of what is done with norm proofs: at the coordinator's door, before a sum is released, and by everybody who checks
//! a Release.

use super::mutants::{Edit, Mutant, Test, in_program};

const fn wire(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "wire", find, replace }
}

const fn coordinator(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "coordinator", find, replace }
}

const fn site(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "participant", find, replace }
}

/// Rounds from their files alone.
const fn audit(name: &'static str) -> Test {
    in_program("sordino-wire", &["--lib"], name)
}

/// Coordinator and sites over real sockets.
const fn rounds(name: &'static str) -> Test {
    in_program("sordino-coordinator", &["--test", "rounds"], name)
}

const CHANGED: Test = audit("audit::tests::evidence_that_was_changed_is_refused_whatever_the_release_says");
const NAMES: Test = audit("audit::tests::lists_of_names_that_contradict_each_other_are_refused");
const OTHER_SUMS: Test = audit("audit::tests::sums_that_do_not_open_the_commitments_are_refused");
const INVITED: Test = audit("audit::tests::a_sum_is_divided_by_those_who_were_invited");
const OTHER_STATE: Test = audit("audit::tests::another_state_is_refused");
const NOISE: Test = rounds("proofs::noise_of_the_coordinator_is_proven_and_part_of_what_is_checked");
const STOPS: Test = rounds("rechecks::a_release_that_does_not_hold_stops_a_site_until_its_owner_accepts_it");

/// All of these.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "evidence may be of others than the survivors",
        edits: &[wire(
            "if !self.inputs.iter().map(|input| &input.signed.id).eq(survivors) {",
            "if !self.inputs.iter().map(|input| &input.signed.id).eq(survivors) && false {",
        )],
        tests: &[CHANGED, NAMES],
    },
    Mutant {
        name: "commitments in evidence need no signature",
        edits: &[wire("if !signed.verify(&digest, &key) {", "if !signed.verify(&digest, &key) && false {")],
        tests: &[CHANGED, audit("audit::tests::another_policy_federation_round_or_attempt_is_refused")],
    },
    Mutant {
        name: "a certificate may be anybody's",
        edits: &[wire(
            "if principal.role != Role::Client || principal.id.as_str() != id.as_str() {",
            "if principal.role != Role::Client && principal.id.as_str() != id.as_str() {",
        )],
        tests: &[audit("audit::tests::certificates_are_those_of_the_roots_time_and_names")],
    },
    Mutant {
        name: "a certificate may be of another time",
        edits: &[wire(
            "self.roots.verify_client_during(&chain, &self.during)",
            "self.roots.verify_client_during(&chain, &(Duration::ZERO..=Duration::from_secs(1 << 40)))",
        )],
        tests: &[audit("audit::tests::certificates_are_those_of_the_roots_time_and_names")],
    },
    Mutant {
        name: "proofs in evidence need not verify",
        edits: &[wire(
            "        for (verified, (id, ..)) in verified.into_iter().zip(&parsed) {
            let id = || ParticipantId::clone(id);
            sum.add(&verified.map_err(|source| EvidenceError::Proof { id: id(), source })?)?;",
            "        for (verified, (_, commitments, _)) in verified.into_iter().zip(&parsed) {
            let _ = verified;
            sum.add_unproven(commitments)?;",
        )],
        tests: &[CHANGED, audit("audit::tests::commitments_that_were_replaced_and_signed_again_are_refused")],
    },
    Mutant {
        name: "the proof of the coordinator's noise is not looked at",
        edits: &[wire(
            "sum.add(&verifier.verify(&submission, threads).map_err(EvidenceError::NoiseProof)?)?;",
            "let _ = verifier.verify(&submission, threads).map_err(EvidenceError::NoiseProof);
                sum.add_unproven(commitments)?;",
        )],
        tests: &[NOISE],
    },
    Mutant {
        name: "evidence may lack the coordinator's noise",
        edits: &[wire(
            "            (expected, _) => return Err(EvidenceError::Noise { expected: expected.is_some() }),",
            "            _ => {}",
        )],
        tests: &[NOISE, audit("audit::tests::what_the_release_says_follows_from_policy_and_sum")],
    },
    Mutant {
        name: "a released sum need not open the commitments",
        edits: &[wire(
            "Ok(sum.opens_to(claim, generators, integers, &self.blindings, threads)?)",
            "Ok(sum.opens_to(claim, generators, integers, &self.blindings, threads).unwrap_or(()))",
        )],
        tests: &[OTHER_SUMS, CHANGED],
    },
    Mutant {
        name: "files need not be those of their digests",
        edits: &[wire(
            "if found == stated { Ok(()) } else { Err(AuditError::Digest { file, stated, found }) }",
            "if true { Ok(()) } else { Err(AuditError::Digest { file, stated, found }) }",
        )],
        tests: &[audit("audit::tests::files_with_other_digests_are_refused")],
    },
    Mutant {
        name: "the sums of groups need not add up",
        edits: &[wire(
            "total.iter().zip(sum).position(|(total, value)| total != value)",
            "total.iter().zip(sum).position(|(total, value)| total != value && false)",
        )],
        tests: &[OTHER_SUMS],
    },
    Mutant {
        name: "one input may be in two groups",
        edits: &[wire(
            "if !all.iter().copied().eq(&release.survivors) {",
            "all.dedup();
        if !all.iter().copied().eq(&release.survivors) && false {",
        )],
        tests: &[NAMES],
    },
    Mutant {
        name: "a group's sum may be of too few",
        edits: &[wire(
            "if few(survivors.len(), self.context(proven, group).min_survivors) {",
            "if few(survivors.len(), self.context(proven, group).min_survivors) && false {",
        )],
        tests: &[NAMES],
    },
    Mutant {
        name: "the bounds may be others than the policy's",
        edits: &[wire(r#"        same("a claim of", &stated.claim, &Digest(*proof.claim.digest()))?;"#, "")],
        tests: &[
            audit("audit::tests::what_the_release_says_follows_from_policy_and_sum"),
            audit("audit::tests::another_policy_federation_round_or_attempt_is_refused"),
        ],
    },
    Mutant {
        name: "the next model need not follow from the sum",
        edits: &[wire("        if found != release.model {", "        if found != release.model && false {")],
        tests: &[audit("audit::tests::a_model_that_was_not_moved_by_the_sum_is_refused"), STOPS],
    },
    Mutant {
        name: "what the optimiser remembers need not follow from the sum",
        edits: &[wire("            if found != stated {", "            if found != stated && false {")],
        tests: &[OTHER_STATE],
    },
    Mutant {
        name: "a Release may say anything of the metric that is watched",
        edits: &[wire(
            "if !self.policy.admits_convergence(stated, &aggregate, self.round.id.number) {",
            "if !self.policy.admits_convergence(stated, &aggregate, self.round.id.number) && false {",
        )],
        tests: &[audit("audit::tests::how_the_watched_metric_stands_follows_from_the_sum")],
    },
    Mutant {
        name: "a task may begin with any state of its optimiser",
        edits: &[wire(
            "let (1, None, Some(found)) = (round.id.number, &first, found)",
            "let (0, None, Some(found)) = (round.id.number, &first, found)",
        )],
        tests: &[OTHER_STATE],
    },
    Mutant {
        name: "the coordinator takes any proof",
        edits: &[coordinator(
            "Ok(verifier.verify(&submission, ONE).map(drop)?)",
            "Ok(verifier.verify(&submission, ONE).map(drop).unwrap_or(()))",
        )],
        tests: &[rounds("proofs::whose_proof_is_bad_is_named_and_left_out")],
    },
    Mutant {
        name: "a sum may be divided by another number than that of the invited",
        edits: &[wire("bytes.extend_from_slice(&cohort.to_be_bytes());", "let _ = cohort;")],
        tests: &[INVITED],
    },
    Mutant {
        name: "more may be in a sum than were invited",
        edits: &[wire(
            "if survivors.len() as u64 > u64::from(proven.stated.cohort) {",
            "if survivors.len() as u64 > u64::from(proven.stated.cohort) && false {",
        )],
        tests: &[INVITED],
    },
    Mutant {
        name: "the coordinator releases whatever opens",
        edits: &[coordinator(
            "checked.map_err(|error| error.to_string())",
            "checked.map_err(|error| error.to_string()).or(Ok(()))",
        )],
        tests: &[rounds("proofs::who_sends_another_input_than_it_committed_to_is_isolated"), NOISE],
    },
    Mutant {
        name: "a site believes what is said to be its own input",
        edits: &[site(
            "if awaited.attempts.values().any(|sent| *sent == found) {",
            "if awaited.attempts.values().any(|sent| *sent == found) || true {",
        )],
        tests: &[rounds("rechecks::an_input_that_was_never_sent_is_noticed")],
    },
    Mutant {
        name: "a site forgets what it doubts",
        edits: &[site(
            "self.doubted.insert(round.clone(), Doubt { reason: reason.clone(), at: now() });",
            "let _ = (Doubt { reason: reason.clone(), at: now() }, &self.doubted);",
        )],
        tests: &[STOPS],
    },
];

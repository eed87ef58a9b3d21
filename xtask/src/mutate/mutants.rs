//! The mutants: what is broken, and the tests that have to notice.

use std::path::Path;

/// One defence, broken.
#[derive(Debug)]
pub(super) struct Mutant {
    /// What it does not do any more.
    pub(super) name: &'static str,
    /// How that is written.
    pub(super) edits: &'static [Edit],
    /// Each of these has to fail.
    pub(super) tests: &'static [Test],
}

/// A text that stands once in a crate's source, and what stands there instead.
#[derive(Debug)]
pub(super) struct Edit {
    /// The crate's folder.
    pub(super) of: &'static str,
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
}

/// One test of a test program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    pub(super) package: &'static str,
    /// Cargo's arguments for the program.
    pub(super) target: &'static [&'static str],
    pub(super) name: &'static str,
}

impl Test {
    /// That of its crate; the product's own is named by what it is.
    pub(super) fn folder(&self) -> &'static str {
        if self.package == "sordino" { "cli" } else { self.package.strip_prefix("sordino-").unwrap_or(self.package) }
    }

    /// Its program and name.
    pub(super) fn shown(&self) -> String {
        let folder = self.folder();
        let program = self.target.get(1).map(|name| Path::new(name).display().to_string());
        format!("{folder}::{}::{}", program.as_deref().unwrap_or("lib"), self.name)
    }
}

pub(super) const fn in_program(package: &'static str, target: &'static [&'static str], name: &'static str) -> Test {
    Test { package, target, name }
}

/// A lying coordinator, against participants.
const fn attacks(name: &'static str) -> Test {
    in_program("sordino-secagg", &["--test", "attacks"], name)
}

/// Whole attempts, and misbehaving participants.
const fn protocol(name: &'static str) -> Test {
    in_program("sordino-secagg", &["--test", "protocol"], name)
}

/// Shares that do not open, and complaints about shares that do.
const fn disputes(name: &'static str) -> Test {
    in_program("sordino-secagg", &["--test", "disputes"], name)
}

/// Inside of the crate.
pub(super) const fn unit(name: &'static str) -> Test {
    in_program("sordino-secagg", &["--lib"], name)
}

/// A hostile script in simulated worlds.
const fn script(name: &'static str) -> Test {
    in_program("sordino-sim", &["--test", "hostile"], name)
}

pub(super) const fn secagg(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "secagg", find, replace }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Mutant> {
    let parts = [
        MUTANTS,
        super::attachments::MUTANTS,
        super::around::MUTANTS,
        super::proofs::MUTANTS,
        super::published::MUTANTS,
    ];
    parts.into_iter().flatten()
}

/// Those of the protocol, in its order.
const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the context leaves the attempt's nonce out",
        edits: &[secagg(".raw(&self.nonce)", "")],
        tests: &[attacks("openings_of_another_attempt")],
    },
    Mutant {
        name: "the context leaves the attempt's number out",
        edits: &[secagg(".u32(self.attempt)", "")],
        tests: &[attacks("openings_of_another_attempt")],
    },
    Mutant {
        name: "the context leaves the policy out",
        edits: &[secagg(".raw(&self.policy).raw(&self.model)", ".raw(&self.model)")],
        tests: &[attacks("openings_of_another_attempt")],
    },
    Mutant {
        name: "the context leaves the model out",
        edits: &[secagg(".raw(&self.policy).raw(&self.model)", ".raw(&self.policy)")],
        tests: &[attacks("another_model_for_one_participant"), script("another_model")],
    },
    Mutant {
        name: "participants do not compare the context",
        edits: &[secagg(
            "if *got == self.digest { Ok(()) } else { Err(Refusal::WrongContext { step }) }",
            r#"let _ = (got, step);
        Ok(())"#,
        )],
        tests: &[attacks("openings_of_another_attempt"), script("an_old_attempt_replayed")],
    },
    Mutant {
        name: "neighbours may be of another context",
        edits: &[secagg("if decoded.context != session.digest {", "if false {")],
        tests: &[attacks("another_model_for_one_participant"), script("another_model")],
    },
    Mutant {
        name: "the coordinator does not compare the context",
        edits: &[secagg(
            r#"    if context != expected {
        return Err(Rejection::WrongContext);
    }"#,
            "    let _ = (context, expected);",
        )],
        tests: &[attacks("openings_of_another_attempt")],
    },
    Mutant {
        name: "sums of two inputs are taken part in",
        edits: &[secagg("if context.min_survivors < SURVIVORS_FLOOR {", "if false {")],
        tests: &[attacks("a_sum_of_two_is_not_taken_part_in")],
    },
    Mutant {
        name: "sums over one model are not counted",
        edits: &[secagg(
            "if sums < max || self.0.contains(attempt.as_bytes())",
            "if sums < u32::MAX || max == 0 || self.0.contains(attempt.as_bytes())",
        )],
        tests: &[
            unit("participant::exposure::tests::sums_over_one_model_are_counted_once_each"),
            script("a_round_again_minus_one"),
        ],
    },
    Mutant {
        name: "the coordinator does not check an advertisement's signature",
        edits: &[secagg(
            r#"    if !verify_message(key, bytes) {
        return Err(Rejection::BadSignature);"#,
            r#"    if false {
        let _ = key;
        return Err(Rejection::BadSignature);"#,
        )],
        tests: &[protocol("nobody_speaks_for_another")],
    },
    Mutant {
        name: "a P-256 signature with the larger s counts too",
        edits: &[secagg(
            "signature[32..] <= P256_HALF_ORDER[..] && key.verify(message, signature).is_ok()",
            "let _ = P256_HALF_ORDER;
                key.verify(message, signature).is_ok()",
        )],
        tests: &[unit("wycheproof::ecdsa_p256_with_the_smaller_s")],
    },
    Mutant {
        name: "a batch that holds vouches for the P-256 signatures beside it",
        edits: &[secagg("(batch && claim.key.ed25519().is_some()) ||", "batch ||")],
        tests: &[unit("wycheproof::ecdsa_p256_with_the_smaller_s")],
    },
    Mutant {
        name: "any 65 bytes are a P-256 key",
        edits: &[secagg(
            "if point[0] != UNCOMPRESSED || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_err() {",
            "let _ = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        if point[0] != UNCOMPRESSED {",
        )],
        tests: &[unit("certificate_key::tests::what_is_no_key_is_refused")],
    },
    Mutant {
        name: "anybody may advertise in anybody's name",
        edits: &[secagg("    if decoded.id != *from {", "    if false {")],
        tests: &[protocol("nobody_speaks_for_another")],
    },
    Mutant {
        name: "keys of small order are taken",
        edits: &[secagg("if has_small_order(&self.x25519) {", "if false {")],
        tests: &[attacks("low_order_keys_of_a_neighbour"), protocol("keys_of_no_use_are_not_taken")],
    },
    Mutant {
        name: "a secret that everybody knows counts as agreed on",
        edits: &[secagg(
            "agree(&self.key, UnparsedPublicKey::new(&X25519, peer), (), copy).ok()",
            "Some(agree(&self.key, UnparsedPublicKey::new(&X25519, peer), (), copy).unwrap_or_default())",
        )],
        tests: &[unit("keys::tests::keys_of_no_use_are_refused")],
    },
    Mutant {
        name: "the registrar does not check who advertised",
        edits: &[secagg(
            "verify_all(&claims).map_err(|at| self.members[at].0.clone())?;",
            "let _ = verify_all(&claims);",
        )],
        tests: &[attacks("a_registrar_signs_for_those_it_admitted_only")],
    },
    Mutant {
        name: "the registrar signs a roster in any order",
        edits: &[secagg(
            "key_of(id).filter(|_| fits && last < Some(id))",
            "key_of(id).filter(|_| fits && last != Some(id))",
        )],
        tests: &[unit("coordinator::roster::tests::a_roster_names_each_member_once_and_in_order")],
    },
    Mutant {
        name: "the registrar's signature of a roster is not checked",
        edits: &[secagg(
            "if !verify_ed25519(trust.registrar(), &roster_statement(&session.digest, n, &roster_root), &registrar_signature) {",
            r#"let _ = (trust.registrar(), &registrar_signature, roster_statement);
    if false {"#,
        )],
        tests: &[attacks("a_roster_that_the_registrar_did_not_sign"), script("invented_participants")],
    },
    Mutant {
        name: "survivor lists are signed without the registrar's word",
        edits: &[secagg(
            "if !verify_ed25519(trust.registrar(), &list_statement, &registrar_signature) {",
            r#"let _ = (trust.registrar(), &list_statement, &registrar_signature);
        if false {"#,
        )],
        tests: &[
            attacks("a_survivor_list_that_the_registrar_did_not_sign"),
            unit("coordinator::split::a_stretch_of_the_ring_is_not_opened_where_the_registrar_signs_one_list"),
            script("two_survivor_sets"),
        ],
    },
    Mutant {
        name: "a roster may be smaller than the minimum",
        edits: &[secagg("    if n < min {", "    if n < min.min(1) {")],
        tests: &[attacks("a_roster_shrunk_below_the_minimum"), script("a_shrunk_cohort")],
    },
    Mutant {
        name: "a participant does not look for itself in the roster",
        edits: &[secagg(
            "if !stands(&roster_leaf(&session.id, &advertised), index, &path) {",
            r#"let _ = &path;
    if false {"#,
        )],
        tests: &[attacks("a_roster_without_the_participant")],
    },
    Mutant {
        name: "a neighbour's inclusion proof is not checked",
        edits: &[secagg(
            "if !stands(&roster_leaf(&decoded.id, &advertised)) {",
            r#"let _ = stands;
    if false {"#,
        )],
        tests: &[attacks("replaced_keys_of_a_neighbour"), script("replaced_keys")],
    },
    Mutant {
        name: "the signature of an advertisement is not checked",
        edits: &[secagg(
            "    check_advertisements(&place, &neighbours)?;",
            "    let _ = check_advertisements(&place, &neighbours);",
        )],
        tests: &[attacks("replaced_keys_of_a_neighbour"), script("replaced_keys")],
    },
    Mutant {
        name: "any neighbours are taken for those of the graph",
        edits: &[secagg(
            "if !neighbours.iter().map(|neighbour| neighbour.index).eq(graph.neighbours(index)) {",
            r#"let _ = graph.neighbours(index);
    if false {"#,
        )],
        tests: &[attacks("a_forged_graph"), script("a_forged_graph")],
    },
    Mutant {
        name: "the holder's x-coordinate can be 0",
        edits: &[secagg(
            r#"Scalar {
    Scalar::from(u64::from(holder) + 1)"#,
            r#"Scalar {
    Scalar::from(u64::from(holder))"#,
        )],
        tests: &[unit("shamir::tests::a_polynomial_worked_by_hand")],
    },
    Mutant {
        name: "polynomials have one coefficient too few",
        edits: &[secagg(
            "coefficients.extend((1..threshold).map(|_| Scalar::random(rng)));",
            "coefficients.extend((2..threshold).map(|_| Scalar::random(rng)));",
        )],
        tests: &[unit("participant::vectors::known_answers")],
    },
    Mutant {
        name: "a third of the neighbours is a threshold",
        edits: &[secagg("let t = (k + corrupt.min(k)) / 2 + 1;", "let t = (k / 3).max(1);")],
        tests: &[attacks("two_survivor_lists_in_every_split"), script("asking_for_both_shares")],
    },
    Mutant {
        name: "the threshold bounds single neighbourhoods only",
        edits: &[secagg("security_bits + 2.0 * f64::from(n).log2()", "security_bits + f64::from(n).log2()")],
        tests: &[
            unit("topology::tests::no_choice_of_dropouts_cuts_the_ring_more_often_than_promised"),
            unit("participant::vectors::known_answers"),
        ],
    },
    Mutant {
        name: "shares may be for others than the neighbours",
        edits: &[secagg("if !message.holders().eq(roster.graph.neighbours(index)) {", "if false {")],
        tests: &[protocol("shares_go_to_exactly_the_neighbours")],
    },
    Mutant {
        name: "encapsulations may be missing",
        edits: &[secagg(
            "message.sealed().find(|sealed| !sealed.has_encapsulations(index, pq))",
            "message.sealed().find(|_| pq && false)",
        )],
        tests: &[protocol("shares_have_the_encapsulations_that_the_policy_asks_for")],
    },
    Mutant {
        name: "the coordinator does not check the dealer's signature",
        edits: &[secagg("if !message.is_signed_by(&roster.member(index).key, context) {", "if false {")],
        tests: &[protocol("damaged_messages_are_rejected")],
    },
    Mutant {
        name: "both directions of a channel have one key",
        edits: &[secagg(
            r#"            self.sender.as_str().as_bytes(),
            &self.advertised[0][..],
            self.receiver.as_str().as_bytes(),
            &self.advertised[1][..],
"#,
            r#"            self.sender.max(self.receiver).as_str().as_bytes(),
            &self.advertised[0].max(self.advertised[1])[..],
            self.sender.min(self.receiver).as_str().as_bytes(),
            &self.advertised[0].min(self.advertised[1])[..],
"#,
        )],
        tests: &[unit("participant::vectors::known_answers")],
    },
    Mutant {
        name: "the channel's nonce is always the same",
        edits: &[secagg(
            r#"Nonce::try_assume_unique_for_key(nonce).expect("12 bytes are a nonce")"#,
            "Nonce::assume_unique_for_key([0 & nonce[0]; 12])",
        )],
        tests: &[unit("participant::vectors::known_answers")],
    },
    Mutant {
        name: "the associated data does not bind the commitments",
        edits: &[secagg(
            r#"        out.raw(&self.commitments.root).raw(&self.commitments.self_seed);
        out.finish()"#,
            "        out.finish()",
        )],
        tests: &[unit("keys::tests::sealed_shares_open_for_their_edge_only")],
    },
    Mutant {
        name: "there is no associated data",
        edits: &[secagg(
            r#"        let mut out = Writer::new();
        out.bytes(labels::SEALED_SHARES)"#,
            r#"        if self.context.0 != [0; 32] {
            return Vec::new();
        }
        let mut out = Writer::new();
        out.bytes(labels::SEALED_SHARES)"#,
        )],
        tests: &[
            unit("keys::tests::sealed_shares_open_for_their_edge_only"),
            unit("participant::vectors::known_answers"),
        ],
    },
    Mutant {
        name: "derivations leave their purpose out",
        edits: &[secagg(
            r#"okm: &mut [u8]) {
    let mut info = Writer::new();
    info.bytes(label);
"#,
            r#"okm: &mut [u8]) {
    let mut info = Writer::new();
    let _ = label;
"#,
        )],
        tests: &[unit("participant::vectors::known_answers")],
    },
    Mutant {
        name: "derivations leave names and keys out",
        edits: &[secagg(
            r#"        info.bytes(part);
    }
    Hkdf"#,
            r#"        let _ = part;
    }
    Hkdf"#,
        )],
        tests: &[unit("keys::tests::masks_are_bound_to_context_names_and_keys")],
    },
    Mutant {
        name: "the dealer's signature of what is delivered is not checked",
        edits: &[secagg(
            "verify_all(&claims).map_err(|at| Refusal::AlteredShares { dealer: delivered.deliveries[at].dealer })?;",
            "let _ = &claims;",
        )],
        tests: &[attacks("tampered_shares"), attacks("redirected_shares")],
    },
    Mutant {
        name: "shares of strangers, or twice, are taken",
        edits: &[secagg(
            "let neighbour = place.neighbours.get(dealer).filter(|_| Some(*dealer) > last);",
            "let neighbour = place.neighbours.get(dealer);",
        )],
        tests: &[attacks("shares_of_strangers_or_twice")],
    },
    Mutant {
        name: "shares are held without a look at their commitments",
        edits: &[secagg(
            ".filter(|plain| plain.commitments(&session.digest, &neighbour.id, &session.id) == record.commitments)",
            ".filter(|_| record.commitments.root != [0; 32])",
        )],
        tests: &[unit("participant::tests::shares_that_do_not_match_their_commitments_are_not_held")],
    },
    Mutant {
        name: "an input is masked with any number of neighbours",
        edits: &[secagg("if records.len() < place.topology.t as usize {", "if records.is_empty() {")],
        tests: &[attacks("withheld_shares"), script("withheld_messages")],
    },
    Mutant {
        name: "both ends of a pair add its mask",
        edits: &[secagg("Some((key, if adds { Sign::Plus } else { Sign::Minus }))", "Some((key, Sign::Plus))")],
        tests: &[protocol("an_input_is_late_once_the_survivors_are_announced")],
    },
    Mutant {
        name: "there is no self mask",
        edits: &[secagg(
            "let mut masks = vec![(self_seed.mask(&session.digest, &session.id), Sign::Plus)];",
            r#"let _ = self_seed;
    let mut masks = Vec::new();"#,
        )],
        tests: &[protocol("an_input_is_late_once_the_survivors_are_announced")],
    },
    Mutant {
        name: "masks are not reduced to the ring",
        edits: &[Edit {
            of: "kernel",
            find: r#"            fn masked(self, mask: Self) -> Self {
                self & mask
            }"#,
            replace: r#"            fn masked(self, mask: Self) -> Self {
                self | (mask & <$word>::default())
            }"#,
        }],
        tests: &[unit("prg::tests::masks_are_one_long_stream")],
    },
    Mutant {
        name: "the coordinator does not check an input's signature",
        edits: &[secagg("if !verify_message(&roster.member(index).key, header) {", "if false {")],
        tests: &[protocol("nobody_speaks_for_another"), disputes("a_complaint_is_signed_and_about_a_dealer")],
    },
    Mutant {
        name: "the dealers of an input are not compared",
        edits: &[secagg(
            "if decoded.dealers != dealers_digest(context, &opened) {",
            r#"let _ = dealers_digest;
    if false {"#,
        )],
        tests: &[attacks("wrong_dealers"), script("withheld_messages")],
    },
    Mutant {
        name: "the signature of an input leaves its complaints out",
        edits: &[secagg(
            r#"    if !verify_message(&roster.member(index).key, header) {
        return Err(Rejection::BadSignature);
    }
    let dealers"#,
            r#"    let list = header.len() - 64 - 4 * decoded.complaints.len();
    let unsaid = [&header[..list - 4], &[0; 4][..], &header[header.len() - 64..]].concat();
    if !verify_message(&roster.member(index).key, header) && !verify_message(&roster.member(index).key, &unsaid) {
        return Err(Rejection::BadSignature);
    }
    let dealers"#,
        )],
        tests: &[disputes("a_complaint_is_signed_and_about_a_dealer")],
    },
    Mutant {
        name: "anybody can be complained about",
        edits: &[secagg(
            "if let Some(&dealer) = decoded.complaints.iter().find(|dealer| opened.binary_search(dealer).is_err()) {",
            "if let Some(&dealer) = decoded.complaints.iter().find(|_| opened.is_empty()) {",
        )],
        tests: &[disputes("a_complaint_is_signed_and_about_a_dealer")],
    },
    Mutant {
        name: "who complains counts as a helper",
        edits: &[secagg("opened.retain(|dealer| decoded.complaints.binary_search(dealer).is_err());", "")],
        tests: &[
            disputes("a_spoiled_pair_and_silence_end_in_a_dispute_at_every_step"),
            disputes("a_false_complaint_and_silence_end_in_a_dispute_at_every_step"),
            disputes("a_quorum_of_answers_is_none_without_good_helpers"),
        ],
    },
    Mutant {
        name: "MaskedInput closes without a look at the helpers",
        edits: &[secagg(
            "helped.check(&signed.roster, max_corrupt, &complaints, |holder| inputs.contains_key(&holder))?;",
            "let _ = helped;",
        )],
        tests: &[
            disputes("a_spoiled_pair_and_silence_end_in_a_dispute_at_every_step"),
            disputes("a_dealer_whose_shares_do_not_open_for_many_is_named_before_anything_is_revealed"),
        ],
    },
    Mutant {
        name: "the bytes of an input are not those that were signed",
        edits: &[secagg(
            "if payload.len() != decoded.len || *payload.digest() != decoded.digest {",
            "if payload.len() != decoded.len {",
        )],
        tests: &[protocol("an_upload_is_the_bytes_that_its_header_signed")],
    },
    Mutant {
        name: "an input's padding is not looked at",
        edits: &[secagg("if !payload.begins_packed(&self.setup.context) {", "if false {")],
        tests: &[protocol("padding_is_checked_before_an_input_counts")],
    },
    Mutant {
        name: "a second, different message takes the place of the first",
        edits: &[secagg(
            "Some(_) => Err(Rejection::AlreadySubmitted { step }),",
            r#"Some(_) => {
            let _ = Rejection::AlreadySubmitted { step };
            Ok(Receipt::Accepted)
        }"#,
        )],
        tests: &[protocol("the_first_message_of_a_step_stands")],
    },
    Mutant {
        name: "an input can be added twice",
        edits: &[secagg("if self.included.contains(from) {", "if false {")],
        tests: &[protocol("a_sum_of_other_inputs_is_not_opened")],
    },
    Mutant {
        name: "a sum of other inputs than the survivors' is opened",
        edits: &[secagg(
            "if !included.iter().eq(sharing.survivors.iter().map(|index| &roster.member(index).id)) {",
            r#"let _ = included;
    if false {"#,
        )],
        tests: &[protocol("a_sum_of_other_inputs_is_not_opened")],
    },
    Mutant {
        name: "fewer inputs than the minimum are summed up",
        edits: &[secagg("enough(Step::MaskedInput, inputs.len(), self.setup.context.min_survivors)?;", "")],
        tests: &[protocol("dropouts")],
    },
    Mutant {
        name: "a survivor list may be shorter than the minimum",
        edits: &[secagg("if survivors.len() < min {", "if false {")],
        tests: &[attacks("false_survivor_lists"), script("a_shrunk_cohort")],
    },
    Mutant {
        name: "a participant signs a list without itself",
        edits: &[secagg("if !survivors.contains(place.index) {", "if false {")],
        tests: &[attacks("false_survivor_lists"), script("declared_dropped"), script("lies_about_survivors")],
    },
    Mutant {
        name: "a survivor may be somebody who never shared",
        edits: &[secagg(
            "if let Some(&index) = surviving().find(|neighbour| !held.contains_key(neighbour)) {",
            "if let Some(&index) = surviving().find(|_| held.is_empty()) {",
        )],
        tests: &[attacks("false_survivor_lists")],
    },
    Mutant {
        name: "any number of surviving neighbours is enough",
        edits: &[secagg(
            r#"    let threshold = place.topology.t;
    if answering < threshold {
        return Err(Refusal::TooFewNeighbours { step: Step::ConsistencyCheck, answering, threshold });"#,
            r#"    let threshold = place.topology.t;
    if answering < 1 {
        return Err(Refusal::TooFewNeighbours { step: Step::ConsistencyCheck, answering, threshold });"#,
        )],
        tests: &[attacks("false_survivor_lists")],
    },
    Mutant {
        name: "the coordinator does not check a survivor's signature",
        edits: &[secagg(
            "if !verify(&roster.member(index).key, &statement, &message.signature) {",
            r#"let _ = &statement;
    if false {"#,
        )],
        tests: &[protocol("damaged_messages_are_rejected")],
    },
    Mutant {
        name: "the signatures of survivors do not bind the roster",
        edits: &[secagg(
            "out.bytes(label).u16(VERSION).raw(&context.0).raw(roster_root)",
            r#"let _ = roster_root;
    out.bytes(label).u16(VERSION).raw(&context.0)"#,
        )],
        tests: &[
            attacks("signatures_of_another_survivor_list"),
            attacks("a_survivor_list_that_the_registrar_did_not_sign"),
        ],
    },
    Mutant {
        name: "signatures of the survivor list are not checked",
        edits: &[secagg(
            "verify_all(&claims).map_err(|at| Refusal::BadSignature { signer: list.signatures[at].0 })?;",
            "let _ = &claims;",
        )],
        tests: &[attacks("signatures_of_another_survivor_list"), script("two_survivor_sets")],
    },
    Mutant {
        name: "any number of signatures is enough",
        edits: &[secagg(
            r#"expect("the decoder bounds the list");
        let threshold = place.topology.t;
        if answering < threshold {"#,
            r#"expect("the decoder bounds the list");
        let threshold = place.topology.t;
        if answering < threshold.min(1) {"#,
        )],
        tests: &[attacks("too_few_or_repeated_or_foreign_signatures"), script("asking_for_both_shares")],
    },
    Mutant {
        name: "one signature counts as often as it is shown",
        edits: &[secagg(
            "place.neighbours.get(signer).filter(|_| survivors.contains(*signer) && Some(*signer) > last);",
            "place.neighbours.get(signer).filter(|_| survivors.contains(*signer) && last < Some(u32::MAX));",
        )],
        tests: &[attacks("too_few_or_repeated_or_foreign_signatures")],
    },
    Mutant {
        name: "the signature of a dropout counts",
        edits: &[secagg(
            "place.neighbours.get(signer).filter(|_| survivors.contains(*signer) && Some(*signer) > last);",
            "place.neighbours.get(signer).filter(|_| Some(*signer) > last);",
        )],
        tests: &[attacks("the_signature_of_a_dropout")],
    },
    Mutant {
        name: "shares of both secrets are revealed",
        edits: &[
            secagg(
                "                reveal.insert(dealer, (role, shares.of_role(role).clone()));",
                r#"                let other = if role == Role::Root { Role::SelfSeed } else { Role::Root };
                reveal.insert(dealer | 1 << 31, (other, shares.of_role(other).clone()));
                reveal.insert(dealer, (role, shares.of_role(role).clone()));"#,
            ),
            secagg(
                "|(dealer, (role, salted))| RevealedShare { dealer, role, salted }",
                "|(dealer, (role, salted))| RevealedShare { dealer: dealer & !(1 << 31), role, salted }",
            ),
        ],
        tests: &[attacks("two_survivor_lists_in_every_split"), script("late_inputs")],
    },
    Mutant {
        name: "the other secret's share is revealed",
        edits: &[secagg(
            "let role = if survivors.contains(dealer) { Role::SelfSeed } else { Role::Root };",
            "let role = if survivors.contains(dealer) { Role::Root } else { Role::SelfSeed };",
        )],
        tests: &[protocol("an_input_is_late_once_the_survivors_are_announced")],
    },
    Mutant {
        name: "the coordinator takes shares of the other secret",
        edits: &[secagg(
            "dealt.filter(|_| *role == sharing.role(*dealer) && Some(*dealer) > last)",
            "dealt.filter(|_| Some(*dealer) > last)",
        )],
        tests: &[protocol("a_bad_revealed_share_costs_its_sender_only")],
    },
    Mutant {
        name: "the coordinator takes one share twice",
        edits: &[secagg(
            "dealt.filter(|_| *role == sharing.role(*dealer) && Some(*dealer) > last)",
            "dealt.filter(|_| *role == sharing.role(*dealer) && last < Some(u32::MAX))",
        )],
        tests: &[protocol("a_bad_revealed_share_costs_its_sender_only")],
    },
    Mutant {
        name: "a revealed share need not open its commitment",
        edits: &[secagg(
            "if opened != *dealt.commitments.of_role(*role) {",
            r#"let _ = (opened, dealt);
        if false {"#,
        )],
        tests: &[protocol("a_bad_revealed_share_costs_its_sender_only"), script("wrong_reveals")],
    },
    Mutant {
        name: "a self-mask seed need not be the one committed to",
        edits: &[secagg(
            "(seed.commitment(digest, id) == committed).then(",
            "(seed.commitment(digest, id) != [0; 32] || committed == [0; 32]).then(",
        )],
        tests: &[protocol("a_dealer_of_a_wrong_self_mask_seed_is_named")],
    },
    Mutant {
        name: "a root need not be that of the advertised keys",
        edits: &[secagg("if secret.public() != roster.member(dealer).keys().mask {", "if false {")],
        tests: &[protocol("a_dealer_of_a_wrong_root_is_named_and_the_next_attempt_does_without_it")],
    },
    Mutant {
        name: "a dropout's encapsulations are not compared",
        edits: &[secagg("if sent.is_some_and(|sent| *sent != made) {", "if false {")],
        tests: &[protocol("a_dropout_of_a_wrong_encapsulation_is_named")],
    },
    Mutant {
        name: "a holder may leave out a dealer whose shares it said to be good",
        edits: &[secagg(
            "sharing.opened_by(index).find(|dealer| revealed_of.next() != Some(*dealer))",
            "sharing.opened_by(index).find(|_| revealed_of.next() == Some(u32::MAX))",
        )],
        tests: &[disputes("a_holder_reveals_what_it_said_to_be_good"), script("wrong_reveals")],
    },
    Mutant {
        name: "a holder may reveal a share that it complained about",
        edits: &[secagg("let dealt = dealt.filter(|_| !sharing.complaints.stands(index, *dealer));", "")],
        tests: &[disputes("a_holder_reveals_what_it_said_to_be_good")],
    },
    Mutant {
        name: "one complaint names a dealer",
        edits: &[secagg(
            "if complaining.len() > max_corrupt as usize {",
            "if complaining.len() > max_corrupt.min(0) as usize {",
        )],
        tests: &[disputes("a_false_complaint_and_silence_end_in_a_dispute_at_every_step"), script("false_complaints")],
    },
];

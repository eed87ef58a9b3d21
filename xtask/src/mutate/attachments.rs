//! Mutants of what inputs carry beside their vectors, and of inputs that are refused for it.

use super::mutants::{Mutant, Test, in_program, secagg};

const fn attachments(name: &'static str) -> Test {
    in_program("sordino-secagg", &["--test", "attachments"], name)
}

const REFUSED: Test = attachments("a_refused_input_is_a_dropout");
const OUTSIDERS: Test = attachments("signed_commitments_are_checked_by_outsiders");

/// All of these.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the context does not bind what is proven",
        edits: &[secagg("out.u8(1).raw(claim)", "out.u8(1 | claim[0] & 0)")],
        tests: &[attachments("other_terms_are_another_context")],
    },
    Mutant {
        name: "an input may carry anything, or nothing",
        edits: &[secagg(
            "if got == expected { Ok(()) } else { Err(Refusal::WrongAttachment { got, expected }) }",
            "if got == expected || got != expected { Ok(()) } else { Err(Refusal::WrongAttachment { got, expected }) }",
        )],
        tests: &[attachments("an_input_carries_what_the_attempt_asks_for")],
    },
    Mutant {
        name: "a dealer's signature leaves its commitments out",
        edits: &[secagg(
            "out.raw(commitments).u32(holders).raw(root);",
            r#"let _ = commitments;
        out.u32(holders).raw(root);"#,
        )],
        tests: &[
            attachments("tampered_commitments_in_sealed_shares"),
            attachments("a_tampered_digest_of_commitments_in_a_delivery"),
            OUTSIDERS,
        ],
    },
    Mutant {
        name: "commitments may be of any length",
        edits: &[secagg(
            "(message.commitments().len(), terms.commitments_len());",
            "(message.commitments().len(), message.commitments().len().max(terms.commitments_len() * 0));",
        )],
        tests: &[
            attachments("tampered_commitments_in_sealed_shares"),
            attachments("commitments_that_nobody_asked_for"),
        ],
    },
    Mutant {
        name: "the padding is looked for behind the proof",
        edits: &[secagg("self.packed_len.saturating_sub(self.len)", "u64::MAX")],
        tests: &[attachments("tampered_proofs_in_an_upload")],
    },
    Mutant {
        name: "bytes behind an upload are ignored",
        edits: &[secagg("if behind > self.proof_len {", "if behind == u64::MAX {")],
        tests: &[attachments("an_upload_is_added_in_any_pieces")],
    },
    Mutant {
        name: "a refused input is awaited again",
        edits: &[secagg(
            "Some(index) if refused.contains(&index) => Err(Rejection::RefusedInput { id: from.clone() }),",
            "Some(index) if refused.contains(&index) && !shared.contains_key(&index) => {
                Err(Rejection::RefusedInput { id: from.clone() })
            }",
        )],
        tests: &[REFUSED],
    },
    Mutant {
        name: "a refused input is taken all the same",
        edits: &[secagg("    if refused.contains(&index) {", "    if refused.contains(&index) && header.is_empty() {")],
        tests: &[REFUSED],
    },
    Mutant {
        name: "a step waits for an input that it refused",
        edits: &[secagg("shared.len() - refused.len()", "shared.len() - 0 * refused.len()")],
        tests: &[REFUSED],
    },
    Mutant {
        name: "whose input was refused is shown what follows",
        edits: &[secagg(
            "shared.contains_key(&at) && !refused.contains(&at)",
            "shared.contains_key(&at) && (!refused.contains(&at) || true)",
        )],
        tests: &[REFUSED],
    },
    Mutant {
        name: "an input that counts is said to be refused",
        edits: &[secagg(
            "Err(Rejection::RefusedInput { .. }) => return Ok(()),",
            "Err(Rejection::RefusedInput { .. } | Rejection::AlreadySubmitted { .. }) => return Ok(()),",
        )],
        tests: &[attachments("who_cannot_be_refused")],
    },
    Mutant {
        name: "outsiders believe any signature",
        edits: &[secagg(
            "verify(key, &statement.bytes(), &self.signature)\n    }\n}",
            "verify(key, &statement.bytes(), &self.signature) || self.holders > 0\n    }\n}",
        )],
        tests: &[OUTSIDERS],
    },
];

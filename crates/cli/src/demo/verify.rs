//! The proof on the spot: what was released is what the survivors encoded, summed in the clear, bit for bit.

use super::{
    INPUTS,
    plain_sum::{NotTheSum, check_sum},
};
use crate::failure::{DemoError, Failure};
use sordino_participant::Client;
use sordino_wire::{
    Digest,
    api::{AttemptId, Round},
};
use std::path::Path;

/// How many values were compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verified {
    pub(super) values: usize,
}

/// Compares the sum of a round's Release with the sum of the files that its survivors wrote.
///
/// # Errors
/// The first value that differs, by its place.
pub(super) async fn sum(auditor: &Client, folder: &Path, round: &Round) -> Result<Verified, Failure> {
    let number = round.id.number;
    let release = round.release.as_ref().ok_or(DemoError::NoRelease { round: number })?;
    let bytes = auditor.get_bytes(&format!("/v1/rounds/{}/sum", round.id), SUM_MAX).await?;
    if Digest::of(&bytes) != release.sum {
        return Err(DemoError::WrongSum { round: number, at: 0 }.into());
    }
    let attempt = AttemptId { round: round.id.clone(), attempt: round.attempt };
    match check_sum(&folder.join(INPUTS), &attempt, &release.survivors, &bytes) {
        Ok(values) => Ok(Verified { values }),
        Err(NotTheSum::Differs { at }) => Err(DemoError::WrongSum { round: number, at }.into()),
        Err(error) => Err(DemoError::Inputs { round: number, source: error }.into()),
    }
}

/// Bytes of a sum, at most: a demonstration's model is small.
const SUM_MAX: usize = 1 << 30;

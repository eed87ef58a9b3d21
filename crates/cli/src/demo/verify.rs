//! The proof on the spot: what was released is what the survivors encoded, summed in the clear, bit for bit.

use super::INPUTS;
use crate::failure::{DemoError, Failure};
use sordino_participant::Client;
use sordino_wire::{Digest, api::Round};
use std::{fs, path::Path};

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
    let released = integers(&bytes);
    let mut plain = vec![0i64; released.len()];
    for site in &release.survivors {
        let path = folder.join(INPUTS).join(format!("{number}.{}.{site}.i64", round.attempt));
        let input = fs::read(&path).map_err(|source| Failure::File { what: "read", path: path.clone(), source })?;
        let input = integers(&input);
        if input.len() != plain.len() {
            return Err(DemoError::WrongSum { round: number, at: input.len().min(plain.len()) }.into());
        }
        plain.iter_mut().zip(input).for_each(|(sum, value)| *sum += value);
    }
    match plain.iter().zip(&released).position(|(plain, released)| plain != released) {
        Some(at) => Err(DemoError::WrongSum { round: number, at }.into()),
        None => Ok(Verified { values: released.len() }),
    }
}

fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect()
}

/// Bytes of a sum, at most: a demonstration's model is small.
const SUM_MAX: usize = 1 << 30;

//! The sum in the clear of what participants wrote down, to compare a released one with. Tests of whole federations use
//! it too.

use sordino_wire::api::AttemptId;
use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

/// Why a sum is not shown to be that of its inputs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTheSum {
    /// A file.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sum is another one.
    #[error("value {at} of the sum is not the sum of the inputs")]
    Differs {
        /// The first value that differs or is missing on one side, counted from 0.
        at: usize,
    },
}

/// Compares a released sum with the sum of what these participants wrote down; returns how many values were compared.
///
/// - `folder`: what [`DevOptions::dump`](sordino_participant::DevOptions::dump) named.
/// - `sum`: integers in little-endian order, 8 bytes each, as a Release has them.
///
/// # Errors
/// [`NotTheSum`]: a file is missing, or the first value that differs.
pub(crate) fn check_sum(
    folder: &Path,
    attempt: &AttemptId,
    survivors: impl IntoIterator<Item = impl Display>,
    sum: &[u8],
) -> Result<usize, NotTheSum> {
    let (released, rest) = sum.as_chunks::<8>();
    let mut plain = vec![0i64; released.len()];
    if !rest.is_empty() {
        return Err(NotTheSum::Differs { at: plain.len() });
    }
    for site in survivors {
        let path = folder.join(format!("{}.{}.{site}.i64", attempt.round.number, attempt.attempt));
        let input = fs::read(&path).map_err(|source| NotTheSum::File { path, source })?;
        let (input, rest) = input.as_chunks::<8>();
        if input.len() != plain.len() || !rest.is_empty() {
            return Err(NotTheSum::Differs { at: input.len().min(plain.len()) });
        }
        plain.iter_mut().zip(input).for_each(|(sum, value)| *sum = sum.wrapping_add(i64::from_le_bytes(*value)));
    }
    match plain.iter().zip(released).position(|(plain, released)| *plain != i64::from_le_bytes(*released)) {
        Some(at) => Err(NotTheSum::Differs { at }),
        None => Ok(plain.len()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_compared_with_every_value_of_every_input() {
        let folder = tempfile::tempdir().unwrap();
        let round = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7".parse().unwrap();
        let attempt = AttemptId { round, attempt: 2 };
        let bytes = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        for (site, values) in [("site-a", [1, -2, i64::MAX]), ("site-b", [10, -20, 0])] {
            fs::write(folder.path().join(format!("7.2.{site}.i64")), bytes(&values)).unwrap();
        }
        let check = |sites: &[&str], sum: &[u8]| check_sum(folder.path(), &attempt, sites, sum);
        let right = bytes(&[11, -22, i64::MAX]);
        assert_eq!(check(&["site-a", "site-b"], &right).unwrap(), 3);
        for (sites, sum, at) in [
            (&["site-a", "site-b"][..], bytes(&[11, -22, i64::MAX - 1]), 2),
            (&["site-a", "site-b"], bytes(&[11, -22]), 2),
            (&["site-a", "site-b"], bytes(&[11, -22, i64::MAX, 0]), 3),
            (&["site-a", "site-b"], right[..23].to_vec(), 2),
            (&["site-a"], right.clone(), 0),
            (&[], right.clone(), 0),
        ] {
            assert!(matches!(check(sites, &sum), Err(NotTheSum::Differs { at: found }) if found == at), "{sum:?}");
        }
        assert!(matches!(check(&["site-c"], &right), Err(NotTheSum::File { .. })));
    }
}

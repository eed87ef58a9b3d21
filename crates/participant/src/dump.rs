//! Encoded inputs, written down unmasked where [`DevOptions::dump`](crate::DevOptions::dump) asks for it: the evidence with
//! which a demonstration or a test compares a released sum. For one machine, never for a federation.

use sordino_wire::api::AttemptId;
use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

/// A file that an input cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}")]
pub struct DumpError {
    path: PathBuf,
    source: io::Error,
}

/// Writes one input down, as `ROUND.ATTEMPT.SITE.i64`: integers in little-endian order, 8 bytes each.
pub(crate) fn write(
    folder: &Path,
    attempt: &AttemptId,
    site: &impl Display,
    values: impl Iterator<Item = i64>,
) -> Result<(), DumpError> {
    let path = folder.join(format!("{}.{}.{site}.i64", attempt.round.number, attempt.attempt));
    let bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    fs::write(&path, bytes).map_err(|source| DumpError { path, source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_written_as_it_is_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let round = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7".parse().unwrap();
        let attempt = AttemptId { round, attempt: 2 };
        write(folder.path(), &attempt, &"site-a", [1, -2].into_iter()).unwrap();
        let written = fs::read(folder.path().join("7.2.site-a.i64")).unwrap();
        assert_eq!(written, [&1_i64.to_le_bytes()[..], &(-2_i64).to_le_bytes()].concat());
        let error = write(&folder.path().join("nowhere"), &attempt, &"site-a", [1].into_iter()).unwrap_err();
        assert!(error.to_string().ends_with("nowhere/7.2.site-a.i64"), "{error}");
    }
}

//! Where participants' states wait between two steps: in memory, or in files, so that a cohort whose inputs do not fit
//! the memory can be run by one process.

use crate::failure::BenchError;
use sordino_secagg::{Context, participant::Stored};
use std::{
    fs,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// One place for each participant.
pub(crate) enum Shelf {
    Memory(Vec<Option<Stored>>),
    /// As a site stores them, without the encryption: these are nobody's secrets.
    Files(PathBuf, Box<Context>),
}

impl Shelf {
    pub(crate) fn new(participants: u32, folder: Option<&Path>, context: &Context) -> Result<Self, BenchError> {
        let Some(folder) = folder else {
            return Ok(Self::Memory((0..participants).map(|_| None).collect()));
        };
        let states = folder.join("states");
        fs::create_dir(&states).map_err(BenchError::Files)?;
        Ok(Self::Files(states, Box::new(context.clone())))
    }

    pub(crate) fn put(&mut self, number: u32, state: Stored) -> Result<(), BenchError> {
        match self {
            Self::Memory(states) => states[number as usize] = Some(state),
            Self::Files(folder, _) => fs::write(path(folder, number), state.to_bytes()).map_err(BenchError::Files)?,
        }
        Ok(())
    }

    /// The state, if one was put there.
    pub(crate) fn take(&mut self, number: u32) -> Result<Option<Stored>, BenchError> {
        match self {
            Self::Memory(states) => Ok(states[number as usize].take()),
            Self::Files(folder, context) => {
                let path = path(folder, number);
                if !path.exists() {
                    return Ok(None);
                }
                let bytes = Zeroizing::new(fs::read(path).map_err(BenchError::Files)?);
                Ok(Some(Stored::from_bytes(&bytes, Context::clone(context))?))
            }
        }
    }
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(number.to_string())
}

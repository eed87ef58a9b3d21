//! How a masked input gets from a participant into the sum: straight from memory, or through the coordinator's spool.

use super::{machine::Cost, scenario::TASK};
use crate::failure::BenchError;
use sordino_secagg::{
    ParticipantId,
    coordinator::{Coordinator, RunningSum},
    participant::MaskedUpload,
};
use sordino_store::{Spool, SpoolKey, Store};
use std::path::Path;
use tokio::{io::AsyncReadExt as _, runtime::Runtime};

/// The way of an input.
pub(crate) enum Uploads {
    Direct,
    /// The service's way: chunks into a file that is synced, read once to be checked and once to be added.
    Spooled {
        runtime: Runtime,
        spool: Spool,
    },
}

/// What an input cost the coordinator.
pub(crate) struct Received {
    pub(crate) check: Cost,
    pub(crate) add: Cost,
}

impl Uploads {
    pub(crate) fn new(folder: Option<&Path>) -> Result<Self, BenchError> {
        let Some(folder) = folder else { return Ok(Self::Direct) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(BenchError::Files)?;
        let store = runtime.block_on(Store::open(&folder.join("coordinator")))?;
        Ok(Self::Spooled { runtime, spool: store.spool().clone() })
    }

    /// Takes an input, checks it, and adds it to the sum.
    pub(crate) fn receive(
        &self,
        coordinator: &mut Coordinator,
        sum: &mut RunningSum,
        from: &ParticipantId,
        upload: MaskedUpload,
    ) -> Result<Received, BenchError> {
        let MaskedUpload { header, bytes } = upload;
        let source = match self {
            Self::Direct => Source::Memory(bytes),
            Self::Spooled { runtime, spool } => {
                let key = SpoolKey::new(TASK, 1, 1, from.as_str())?;
                let mut offset = 0;
                for chunk in bytes.chunks(CHUNK_BYTES) {
                    offset = runtime.block_on(spool.append(&key, offset, chunk, bytes.len() as u64))?;
                }
                Source::Spool { runtime, spool, key }
            }
        };
        let (checked, check) = Cost::of(|| {
            coordinator.check_input(from, &header)?;
            let mut hasher = coordinator.hasher();
            source.read(|block| {
                hasher.update(block);
                Ok(())
            })?;
            coordinator.input(from, &header, &hasher.finish(), 0)?;
            Ok::<_, BenchError>(())
        });
        checked?;
        let (added, add) = Cost::of(|| {
            let mut adder = sum.begin(from)?;
            source.read(|block| Ok(adder.push(block)?))?;
            Ok::<_, BenchError>(adder.finish()?)
        });
        added?;
        Ok(Received { check, add })
    }
}

/// Where the bytes of an input are.
enum Source<'a> {
    Memory(Vec<u8>),
    Spool { runtime: &'a Runtime, spool: &'a Spool, key: SpoolKey },
}

impl Source<'_> {
    fn read(&self, mut each: impl FnMut(&[u8]) -> Result<(), BenchError>) -> Result<(), BenchError> {
        match self {
            Self::Memory(bytes) => bytes.chunks(CHUNK_BYTES).try_for_each(each),
            Self::Spool { runtime, spool, key } => runtime.block_on(async {
                let mut file = spool.reader(key).await?;
                let mut block = vec![0; CHUNK_BYTES];
                loop {
                    match file.read(&mut block).await.map_err(BenchError::Files)? {
                        0 => return Ok(()),
                        got => each(&block[..got])?,
                    }
                }
            }),
        }
    }
}

/// As uploads arrive.
const CHUNK_BYTES: usize = 1 << 20;

//! What the machine's AES units can do at best, to hold the kernels against.

use crate::backend::Backend;
use crate::keystream::{Counter, Keystream};

/// Encrypts about `bytes` bytes of counters in registers and returns the xor of the blocks: nothing is loaded or stored.
///
/// The time it takes is the least that any keystream of this cipher takes with these instructions. `None` for
/// [`Backend::PORTABLE`], which has no kernel of ours.
#[must_use]
pub fn register_only(stream: &Keystream, bytes: u64, backend: Backend) -> Option<[u8; 64]> {
    backend.register_only(&backend.schedule(stream), Counter { high: 0, low: 0 }, bytes / 64)
}

//! The inner loops: where a participant's and a coordinator's time goes.
//!
//! - [`apply`]: AES-CTR keystreams, expanded and added to a vector of ring elements in one pass. Nothing of a keystream is
//!   written to memory on its own; all of them pass over one tile of the vector before the next.
//! - [`unpack_add`], [`pack`]: values of b bits each, added to a vector as they are read, and written.
//!
//! Each kernel exists for several sets of instructions ([`Instructions`]), chosen at run time ([`Backend::detect`]); all
//! of them give the same bits, which the tests hold against one another, the `aes` crate, aws-lc-rs, NIST's vectors and
//! the plain definitions.
//!
//! # Threat model
//! Keys and keystreams are secret. No branch and no address depends on them: AES is done by the CPU's instructions, or by
//! the `aes` crate, which is constant-time without them. Keys and round keys are wiped when dropped. Best effort: copies
//! that the compiler keeps in registers or spills to the stack are not wiped. Packed values come from another machine
//! and are hostile, but any bits are values; that there are enough of them is the caller's check, repeated here by an
//! assertion, so that no kernel reads or writes outside of its slices.
//!
//! All unsafe code of the workspace is in one private module, `backend`, with its safety argument.
//!
//! No clock, file, socket or randomness is used. [`apply_threads`] starts threads that end before it returns.

mod backend;
mod keystream;
mod lane;
mod measure;
mod packed;

pub use backend::{Backend, Instructions};
pub use keystream::{Cipher, Keystream, Sign, apply, apply_threads};
pub use lane::{Bits, Lane};
pub use measure::register_only;
pub use packed::{pack, unpack_add};

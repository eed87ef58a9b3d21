//! What a site remembers of its attempts: the state of the one that is open, and the newest that is done.
//!
//! The state holds secrets and the encoded input, so it is sealed with AES-256-GCM under a key derived from the site's
//! own; the masked upload is not secret. Each file is replaced whole: written under a temporary name, synced, renamed.

use crate::join::{private_folder, write_private};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use sordino_identity::IdentityKey;
use sordino_wire::TaskId;
use sordino_wire::api::{Assignment, AttemptId};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The folder of a site's state.
pub(crate) struct StateFolder {
    folder: PathBuf,
    key: LessSafeKey,
    done: BTreeMap<TaskId, AttemptId>,
}

/// Why state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that this key did not seal, or that was changed.
    #[error("{path} is damaged or was sealed under another key; move it away to drop out of the attempt it holds")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The state of an open attempt.
pub(crate) struct Saved {
    pub(crate) assignment: Assignment,
    /// [`sordino_secagg::participant::Stored`] as bytes.
    pub(crate) stored: Zeroizing<Vec<u8>>,
}

impl StateFolder {
    pub(crate) fn open(folder: &Path, identity: &IdentityKey) -> Result<Self, StateError> {
        let folder = folder.join("state");
        private_folder(&folder).map_err(|source| StateError::File { path: folder.clone(), source })?;
        let salt = Salt::new(HKDF_SHA256, LABEL);
        let secret = salt.extract(&identity.to_pkcs8_der());
        let okm = secret.expand(&[b"aes-256-gcm"], &AES_256_GCM).expect("an AES-256 key is short for HKDF");
        let mut state = Self { folder, key: LessSafeKey::new(UnboundKey::from(okm)), done: BTreeMap::new() };
        state.done = match state.read(DONE)? {
            None => BTreeMap::new(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| state.damaged(DONE))?,
        };
        Ok(state)
    }

    /// The newest attempt of a task that this site has done with.
    pub(crate) fn done(&self, task: &TaskId) -> Option<&AttemptId> {
        self.done.get(task)
    }

    /// Notes that an attempt is over for this site, and forgets its secrets.
    pub(crate) fn finish(&mut self, id: AttemptId) -> Result<(), StateError> {
        if self.done.get(&id.round.task).is_none_or(|last| *last < id) {
            self.done.insert(id.round.task.clone(), id);
        }
        let json = serde_json::to_vec(&self.done).map_err(|_| self.damaged(DONE))?;
        self.write(DONE, &json)?;
        for name in [ATTEMPT, UPLOAD] {
            match fs::remove_file(self.folder.join(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(self.file(name)(source)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The attempt that was open when the process ended.
    pub(crate) fn saved(&self) -> Result<Option<Saved>, StateError> {
        let Some(mut sealed) = self.read(ATTEMPT)? else { return Ok(None) };
        let damaged = || self.damaged(ATTEMPT);
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let plain = self.key.open_in_place(nonce, Aad::from(LABEL), sealed).map_err(|_| damaged())?;
        let (len, rest) = plain.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (json, stored) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let assignment = serde_json::from_slice(json).map_err(|_| damaged())?;
        let saved = Saved { assignment, stored: Zeroizing::new(stored.to_vec()) };
        plain.fill(0);
        Ok(Some(saved))
    }

    /// Makes a state durable; the message that came with it may be sent afterwards.
    pub(crate) fn save(&self, assignment: &Assignment, stored: &[u8]) -> Result<(), StateError> {
        let json = serde_json::to_vec(assignment).map_err(|_| self.damaged(ATTEMPT))?;
        let len = u32::try_from(json.len()).map_err(|_| self.damaged(ATTEMPT))?;
        let capacity = 4 + json.len() + stored.len() + AES_256_GCM.tag_len();
        let mut plain = Zeroizing::new(Vec::with_capacity(capacity));
        plain.extend_from_slice(&len.to_le_bytes());
        plain.extend_from_slice(&json);
        plain.extend_from_slice(stored);
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| self.file(ATTEMPT)(io::Error::other(error)))?;
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(sealing, Aad::from(LABEL), &mut *plain).map_err(|_| self.damaged(ATTEMPT))?;
        self.write(ATTEMPT, &[&nonce[..], &plain].concat())
    }

    /// Writes a state's secrets down, in the open, where a test has made the folder `witness` beside this one.
    #[cfg(feature = "test-util")]
    pub(crate) fn witness(&self, stored: &sordino_secagg::participant::Stored) -> Result<(), StateError> {
        let path = self.folder.with_file_name("witness").join(stored.step().name());
        if path.parent().is_none_or(|folder| !folder.is_dir()) {
            return Ok(());
        }
        let line = |(name, bytes): (&str, Vec<u8>)| format!("{}\t{name}\n", hex::encode(bytes));
        let lines: String = stored.dangerous_secrets().into_iter().map(line).collect();
        fs::write(&path, lines).map_err(|source| StateError::File { path, source })
    }

    /// Keeps the masked upload, so that a restart sends the same bytes.
    pub(crate) fn save_upload(&self, packed: &[u8]) -> Result<(), StateError> {
        self.write(UPLOAD, packed)
    }

    /// The masked upload.
    pub(crate) fn upload(&self) -> Result<Vec<u8>, StateError> {
        self.read(UPLOAD)?.ok_or_else(|| self.damaged(UPLOAD))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.file(name)(error)),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        write_private(&self.folder.join(name), content).map_err(self.file(name))
    }

    fn file(&self, name: &str) -> impl FnOnce(io::Error) -> StateError {
        let path = self.folder.join(name);
        move |source| StateError::File { path, source }
    }

    fn damaged(&self, name: &str) -> StateError {
        StateError::Damaged { path: self.folder.join(name) }
    }
}

const LABEL: &[u8] = b"sordino/participant/state/v1";
const ATTEMPT: &str = "attempt.sealed";
const UPLOAD: &str = "upload.bin";
const DONE: &str = "done.json";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use sordino_wire::Digest;

    fn assignment() -> Assignment {
        Assignment {
            round: "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7".parse().unwrap(),
            attempt: 2,
            nonce: Digest([1; 32]),
            model: Digest([2; 32]),
            policy_digest: Digest([3; 32]),
            time_left: 9,
        }
    }

    #[test]
    fn what_is_saved_comes_back_and_is_not_readable() {
        let folder = tempfile::tempdir().unwrap();
        let key = IdentityKey::from_seed(&[7; 32]);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        let secret = b"a secret that is long enough to be found in a file";
        state.save(&assignment(), secret).unwrap();
        let file = fs::read(folder.path().join("state/attempt.sealed")).unwrap();
        assert!(!file.windows(8).any(|window| window == &secret[..8]));
        let saved = StateFolder::open(folder.path(), &key).unwrap().saved().unwrap().unwrap();
        assert_eq!((saved.assignment, &saved.stored[..]), (assignment(), &secret[..]));
    }

    #[test]
    fn another_key_or_a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let key = IdentityKey::from_seed(&[7; 32]);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        state.save(&assignment(), b"state").unwrap();
        let other = StateFolder::open(folder.path(), &IdentityKey::from_seed(&[8; 32])).unwrap();
        assert!(matches!(other.saved(), Err(StateError::Damaged { .. })));
        let path = folder.path().join("state/attempt.sealed");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut file = whole.clone();
            file[at] ^= 1;
            fs::write(&path, &file).unwrap();
            assert!(matches!(state.saved(), Err(StateError::Damaged { .. })), "byte {at}");
        }
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(state.saved(), Err(StateError::Damaged { .. })), "{len} bytes");
        }
    }

    #[test]
    fn an_attempt_that_is_done_is_never_older_than_before() {
        let folder = tempfile::tempdir().unwrap();
        let key = IdentityKey::from_seed(&[7; 32]);
        let mut state = StateFolder::open(folder.path(), &key).unwrap();
        let id = |attempt| AttemptId { round: assignment().round, attempt };
        state.save(&assignment(), b"state").unwrap();
        state.finish(id(2)).unwrap();
        state.finish(id(1)).unwrap();
        assert!(state.saved().unwrap().is_none());
        let state = StateFolder::open(folder.path(), &key).unwrap();
        assert_eq!(state.done(&assignment().round.task), Some(&id(2)));
    }
}

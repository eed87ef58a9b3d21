//! What a site remembers of its attempts: the state of the one that is open, the newest that is done, how many sums it
//! has helped to open, and which Releases it still has to check.
//!
//! The state holds secrets and the encoded input, so it is sealed with AES-256-GCM under a key derived from the site's
//! own; the masked upload is not secret. What counts sums is sealed too, so that a change of it is noticed. Each file
//! is replaced whole: written under a temporary name, synced, renamed.

use crate::join::{private_folder, write_private};
use crate::releases::Releases;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use sordino_identity::PrincipalKey;
use sordino_secagg::participant::{Exposure, Reveal};
use sordino_wire::api::{Assignment, AttemptId};
use sordino_wire::{Digest, TaskId};
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
    policies: BTreeMap<TaskId, Digest>,
    releases: Releases,
    /// Locked as long as this lives.
    _lock: fs::File,
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
    /// Two processes with one state would answer one step twice, with different secrets.
    #[error(
        "another `sordino train` works in this folder: {path} is locked; stop it, or join with a folder of its own"
    )]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
    /// A file that this key did not seal, or that was changed.
    #[error("{path} is damaged or was sealed under another key; move it away to drop out of the attempt it holds")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Nobody knows any more how many sums this site has helped to open: it takes part in none.
    #[error(
        "{path} is damaged or was sealed under another key, and holds how many sums this site has helped to open; \
         bring it back, or move it away if the site's owner accepts that counting begins anew"
    )]
    Uncounted {
        /// The file.
        path: PathBuf,
    },
}

/// The state of an open attempt.
pub(crate) struct Saved {
    pub(crate) assignment: Assignment,
    /// Values in the model of the attempt.
    pub(crate) model_len: usize,
    /// [`sordino_secagg::participant::Stored`] as bytes.
    pub(crate) stored: Zeroizing<Vec<u8>>,
}

/// What stands in the open attempt's file in front of the state.
#[derive(Serialize, Deserialize)]
struct Head<A> {
    assignment: A,
    model_len: usize,
}

impl StateFolder {
    /// Opens the state below a site's folder, for this process alone.
    pub(crate) fn open(folder: &Path, identity: &PrincipalKey) -> Result<Self, StateError> {
        let folder = folder.join("state");
        private_folder(&folder).map_err(|source| StateError::File { path: folder.clone(), source })?;
        let lock = lock(&folder.join(LOCK))?;
        let salt = Salt::new(HKDF_SHA256, LABEL);
        let secret = salt.extract(&identity.to_pkcs8_der());
        let okm = secret.expand(&[b"aes-256-gcm"], &AES_256_GCM).expect("an AES-256 key is short for HKDF");
        let key = LessSafeKey::new(UnboundKey::from(okm));
        let (done, policies, releases) = (BTreeMap::new(), BTreeMap::new(), Releases::default());
        let mut state = Self { folder, key, done, policies, releases, _lock: lock };
        state.done = state.read_json(DONE)?;
        state.policies = state.read_json(POLICIES)?;
        state.releases = state.read_json(RELEASES)?;
        Ok(state)
    }

    /// The policy that this site takes part in a task under, once it has.
    pub(crate) fn policy(&self, task: &TaskId) -> Option<Digest> {
        self.policies.get(task).copied()
    }

    /// Makes durable which policy this site takes part in a task under.
    pub(crate) fn pin(&mut self, task: &TaskId, policy: Digest) -> Result<(), StateError> {
        if self.policies.insert(task.clone(), policy) == Some(policy) {
            return Ok(());
        }
        let json = serde_json::to_vec(&self.policies).map_err(|_| self.damaged(POLICIES))?;
        self.write(POLICIES, &json)
    }

    /// What this site wants to see of the rounds it took part in.
    pub(crate) fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Makes a change of that durable.
    pub(crate) fn change_releases<T>(&mut self, change: impl FnOnce(&mut Releases) -> T) -> Result<T, StateError> {
        let mut releases = self.releases.clone();
        let changed = change(&mut releases);
        if releases != self.releases {
            let json = serde_json::to_vec(&releases).map_err(|_| self.damaged(RELEASES))?;
            self.write(RELEASES, &json)?;
            self.releases = releases;
        }
        Ok(changed)
    }

    /// The attempts in which this site has revealed shares, by model and by round.
    pub(crate) fn exposure(&self) -> Result<Exposure, StateError> {
        let Some(mut sealed) = self.read(EXPOSURE)? else { return Ok(Exposure::default()) };
        let uncounted = || StateError::Uncounted { path: self.folder.join(EXPOSURE) };
        let plain = self.unseal(EXPOSURE_LABEL, &mut sealed).ok_or_else(uncounted)?;
        Exposure::from_bytes(plain).map_err(|_| uncounted())
    }

    /// Makes durable that this site reveals shares in an attempt: before they are sent.
    pub(crate) fn expose(&self, reveal: Reveal<'_>) -> Result<(), StateError> {
        let mut exposure = self.exposure()?;
        exposure.note(reveal);
        let sealed = self.seal(EXPOSURE, EXPOSURE_LABEL, &mut Zeroizing::new(exposure.to_bytes()))?;
        self.write(EXPOSURE, &sealed)
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
        self.forget()
    }

    fn forget(&self) -> Result<(), StateError> {
        for name in [ATTEMPT, UPLOAD] {
            match fs::remove_file(self.folder.join(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(self.file(name)(source)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The attempt that was open when the process ended. One that was done with, and only not forgotten yet, is
    /// forgotten now.
    pub(crate) fn saved(&self) -> Result<Option<Saved>, StateError> {
        let Some(sealed) = self.read(ATTEMPT)? else { return Ok(None) };
        // It becomes the plain text, and is wiped on every way out.
        let mut sealed = Zeroizing::new(sealed);
        let damaged = || self.damaged(ATTEMPT);
        let plain = self.unseal(LABEL, &mut sealed).ok_or_else(damaged)?;
        let (len, rest) = plain.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (json, stored) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let Head { assignment, model_len } = serde_json::from_slice::<Head<Assignment>>(json).map_err(|_| damaged())?;
        let id = AttemptId { round: assignment.round.clone(), attempt: assignment.attempt };
        if self.done(&id.round.task).is_some_and(|done| id <= *done) {
            self.forget()?;
            return Ok(None);
        }
        Ok(Some(Saved { assignment, model_len, stored: Zeroizing::new(stored.to_vec()) }))
    }

    /// Makes a state durable; the message that came with it may be sent afterwards.
    pub(crate) fn save(&self, assignment: &Assignment, model_len: usize, stored: &[u8]) -> Result<(), StateError> {
        let json = serde_json::to_vec(&Head { assignment, model_len }).map_err(|_| self.damaged(ATTEMPT))?;
        let len = u32::try_from(json.len()).map_err(|_| self.damaged(ATTEMPT))?;
        let capacity = 4 + json.len() + stored.len() + AES_256_GCM.tag_len();
        let mut plain = Zeroizing::new(Vec::with_capacity(capacity));
        plain.extend_from_slice(&len.to_le_bytes());
        plain.extend_from_slice(&json);
        plain.extend_from_slice(stored);
        let sealed = self.seal(ATTEMPT, LABEL, &mut plain)?;
        self.write(ATTEMPT, &sealed)
    }

    /// A nonce, and what was plain before, which gets a tag.
    fn seal(&self, name: &str, label: &[u8], plain: &mut Zeroizing<Vec<u8>>) -> Result<Vec<u8>, StateError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| self.file(name)(io::Error::other(error)))?;
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(sealing, Aad::from(label), &mut **plain).map_err(|_| self.damaged(name))?;
        Ok([&nonce[..], plain].concat())
    }

    /// What was sealed under this label, in its place.
    fn unseal<'a>(&self, label: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.key.open_in_place(nonce, Aad::from(label), sealed).ok()
    }

    /// Writes a state's secrets down, in the open, where a test has made the folder `witness` beside this one; behind
    /// them the whole state.
    #[cfg(feature = "test-util")]
    pub(crate) fn witness(&self, stored: &sordino_secagg::participant::Stored) -> Result<(), StateError> {
        let line = |(name, bytes): (&str, Vec<u8>)| format!("{}\t{name}\n", hex::encode(bytes));
        let secrets: String = stored.dangerous_secrets().into_iter().map(line).collect();
        self.append_witness(stored.step().name(), &secrets)?;
        let state = format!("{}\n", hex::encode(&*stored.to_bytes()));
        self.append_witness(&format!("{}.state", stored.step().name()), &state)
    }

    /// Writes down which bytes are sent, there too: the attempt, the step, and digests of the message and of the
    /// upload.
    #[cfg(feature = "test-util")]
    pub(crate) fn witness_sent(&self, stored: &sordino_secagg::participant::Stored) -> Result<(), StateError> {
        let upload = self.read(UPLOAD)?.map_or_else(|| "-".to_owned(), |upload| Digest::of(&upload).to_string());
        let (attempt, step) = (hex::encode(stored.attempt().as_bytes()), stored.step());
        self.append_witness("sent", &format!("{attempt} {step} {} {upload}\n", Digest::of(stored.message())))
    }

    #[cfg(feature = "test-util")]
    fn append_witness(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.folder.with_file_name("witness").join(name);
        if path.parent().is_none_or(|folder| !folder.is_dir()) {
            return Ok(());
        }
        let open = fs::File::options().create(true).append(true).open(&path);
        let written = open.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|source| StateError::File { path, source })
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

    fn read_json<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> Result<T, StateError> {
        match self.read(name)? {
            None => Ok(T::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| self.damaged(name)),
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

/// Takes the lock that says that a process works in this folder; the system gives it back when the process ends.
fn lock(path: &Path) -> Result<fs::File, StateError> {
    let file = |source| StateError::File { path: path.to_owned(), source };
    let lock = fs::File::options().create(true).truncate(false).write(true).open(path).map_err(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StateError::Busy { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(file(source)),
    }
}

const LABEL: &[u8] = b"sordino/participant/state/v1";
const EXPOSURE_LABEL: &[u8] = b"sordino/participant/exposure/v1";
const ATTEMPT: &str = "attempt.sealed";
const UPLOAD: &str = "upload.bin";
const DONE: &str = "done.json";
const POLICIES: &str = "policies.json";
const RELEASES: &str = "releases.json";
const LOCK: &str = "lock";
const EXPOSURE: &str = "exposure.sealed";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use sordino_identity::IdentityKey;

    fn identity(seed: u8) -> PrincipalKey {
        IdentityKey::from_seed(&[seed; 32]).into()
    }

    fn assignment() -> Assignment {
        Assignment {
            round: "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7".parse().unwrap(),
            attempt: 2,
            nonce: Digest([1; 32]),
            model: Digest([2; 32]),
            policy_digest: Digest([3; 32]),
            time_left: 9,
            cohort: 5,
            noise_multiplier: None,
        }
    }

    #[test]
    fn what_is_saved_comes_back_and_is_not_readable() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        let secret = b"a secret that is long enough to be found in a file";
        state.save(&assignment(), 40, secret).unwrap();
        let file = fs::read(folder.path().join("state/attempt.sealed")).unwrap();
        assert!(!file.windows(8).any(|window| window == &secret[..8]));
        drop(state);
        let saved = StateFolder::open(folder.path(), &key).unwrap().saved().unwrap().unwrap();
        assert_eq!((saved.assignment, saved.model_len, &saved.stored[..]), (assignment(), 40, &secret[..]));
    }

    #[test]
    fn another_key_or_a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        state.save(&assignment(), 40, b"state").unwrap();
        drop(state);
        let other = StateFolder::open(folder.path(), &identity(8)).unwrap();
        assert!(matches!(other.saved(), Err(StateError::Damaged { .. })));
        drop(other);
        let state = StateFolder::open(folder.path(), &key).unwrap();
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
        let key = identity(7);
        let mut state = StateFolder::open(folder.path(), &key).unwrap();
        let id = |attempt| AttemptId { round: assignment().round, attempt };
        state.save(&assignment(), 40, b"state").unwrap();
        state.finish(id(2)).unwrap();
        state.finish(id(1)).unwrap();
        assert!(state.saved().unwrap().is_none());
        drop(state);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        assert_eq!(state.done(&assignment().round.task), Some(&id(2)));
    }

    /// The process ended between the note that the attempt is over and the removal of its state.
    #[test]
    fn an_attempt_that_is_done_is_not_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let mut state = StateFolder::open(folder.path(), &key).unwrap();
        let path = folder.path().join("state/attempt.sealed");
        state.save(&assignment(), 40, b"state").unwrap();
        state.save_upload(b"masked").unwrap();
        let kept = fs::read(&path).unwrap();
        state.finish(AttemptId { round: assignment().round, attempt: 2 }).unwrap();
        fs::write(&path, kept).unwrap();
        drop(state);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        assert!(state.saved().unwrap().is_none());
        assert!(!path.exists(), "its secrets are gone");
        state.save(&Assignment { attempt: 3, ..assignment() }, 40, b"state").unwrap();
        assert_eq!(state.saved().unwrap().unwrap().assignment.attempt, 3);
    }

    #[test]
    fn a_folder_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        let second = StateFolder::open(folder.path(), &key).err().unwrap();
        assert!(matches!(&second, StateError::Busy { path } if path.ends_with("state/lock")), "{second}");
        assert!(second.to_string().contains("another `sordino train` works in this folder"), "{second}");
        drop(state);
        StateFolder::open(folder.path(), &key).unwrap();
    }

    /// The digest of an attempt over a model, of a round.
    fn revealed(round: u64, model: Digest, attempt: u32) -> sordino_secagg::Context {
        sordino_secagg::Context {
            federation: "example.org".into(),
            task: assignment().round.task.to_string(),
            round,
            attempt,
            nonce: [0; 32],
            policy: [0; 32],
            model: model.0,
            vector_len: 1,
            bits: sordino_codec::RingBits::new(20).unwrap(),
            prg: sordino_secagg::Prg::Aes256Ctr,
            pq: true,
            min_survivors: 3,
            faults: sordino_secagg::Faults { corrupt: 0, max_dropout_fraction: 0.0 },
            proof: None,
        }
    }

    #[test]
    fn sums_are_counted_by_model_and_by_round_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let reopened = || StateFolder::open(folder.path(), &key).unwrap();
        let [one, other, third] = [1, 2, 3].map(|fill| Digest([fill; 32]));
        assert_eq!(reopened().exposure().unwrap(), Exposure::default());
        for context in [revealed(4, one, 1), revealed(4, one, 1), revealed(4, other, 2)] {
            let state = reopened();
            state.exposure().unwrap().check((&context).into(), 2).unwrap();
            state.expose((&context).into()).unwrap();
        }
        let check = |context: &sordino_secagg::Context| reopened().exposure().unwrap().check(context.into(), 2);
        assert!(check(&revealed(4, third, 3)).is_err(), "two sums of round 4, over two models");
        assert_eq!(check(&revealed(4, other, 2)), Ok(()), "it says the same again");
        assert!(check(&revealed(3, third, 3)).is_err(), "a round before it");
        assert_eq!(check(&revealed(5, other, 3)), Ok(()), "one sum over the other model");
        reopened().expose((&revealed(5, other, 3)).into()).unwrap();
        assert!(check(&revealed(6, other, 4)).is_err(), "two sums over the other model");
        assert_eq!(check(&revealed(6, third, 4)), Ok(()));
    }

    #[test]
    fn who_does_not_know_its_sums_any_more_takes_part_in_none() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        let context = revealed(4, Digest([1; 32]), 1);
        state.expose((&context).into()).unwrap();
        let path = folder.path().join("state/exposure.sealed");
        let whole = fs::read(&path).unwrap();
        let uncounted = || {
            let error = state.exposure().unwrap_err();
            assert!(matches!(&error, StateError::Uncounted { path } if path.ends_with("exposure.sealed")), "{error}");
            assert!(
                matches!(state.expose((&context).into()), Err(StateError::Uncounted { .. })),
                "and nothing is revealed"
            );
        };
        for at in 0..whole.len() {
            let mut file = whole.clone();
            file[at] ^= 1;
            fs::write(&path, &file).unwrap();
            uncounted();
        }
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            uncounted();
        }
        // The file of an open attempt, sealed under the same key.
        state.save(&assignment(), 40, b"state").unwrap();
        fs::copy(folder.path().join("state/attempt.sealed"), &path).unwrap();
        uncounted();
        fs::write(&path, &whole).unwrap();
        state.exposure().unwrap();
    }

    #[test]
    fn a_policy_is_kept_by_task() {
        let folder = tempfile::tempdir().unwrap();
        let key = identity(7);
        let task = assignment().round.task;
        let mut state = StateFolder::open(folder.path(), &key).unwrap();
        assert_eq!(state.policy(&task), None);
        state.pin(&task, Digest([4; 32])).unwrap();
        drop(state);
        let state = StateFolder::open(folder.path(), &key).unwrap();
        assert_eq!(state.policy(&task), Some(Digest([4; 32])));
    }
}

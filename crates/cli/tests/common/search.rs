//! Looks for secrets: many byte strings at once, in files, folders, and the memory of processes.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use rustix::process::Pid;
use sordino_codec::{RingBits, RingVector, pack};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// What is looked for: byte strings of at least [`SHORTEST`] bytes, each under the name of what it would betray.
#[derive(Default)]
pub(crate) struct Search {
    needles: Vec<(String, Vec<u8>)>,
    by_start: HashMap<[u8; KEY], Vec<usize>>,
    /// Whether any of them begins with these three bytes: rules out almost every place at the cost of one look.
    begins: Vec<bool>,
    /// Whether any begins with two zeros.
    zeros_begin: bool,
}

pub(crate) const SHORTEST: usize = 16;
const KEY: usize = 8;
/// Consecutive values of a vector that are no coincidence.
pub(crate) const RUN: usize = 4;

impl Search {
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= SHORTEST, "{name}: {} bytes could be found anywhere", bytes.len());
        self.begins.resize(1 << 24, false);
        self.begins[bytes[0] as usize | (bytes[1] as usize) << 8 | (bytes[2] as usize) << 16] = true;
        self.zeros_begin |= bytes.starts_with(&[0, 0]);
        self.by_start.entry(bytes[..KEY].try_into().unwrap()).or_default().push(self.needles.len());
        self.needles.push((name.to_owned(), bytes.to_vec()));
    }

    /// Every run of consecutive values, each value as these bytes.
    pub(crate) fn add_runs<const N: usize>(&mut self, name: &str, values: impl Iterator<Item = [u8; N]>) {
        let values: Vec<_> = values.collect();
        values.windows(RUN).for_each(|run| self.add(name, run.as_flattened()));
    }

    /// A 32-byte secret. X25519 may change its first and last byte before use, so these are left out.
    pub(crate) fn add_secret(&mut self, name: &str, secret: &[u8]) {
        assert_eq!(secret.len(), 32, "{name}");
        self.add(name, &secret[1..31]);
    }

    /// Bytes as text: hexadecimal, Base64 wherever the bytes stand in what is encoded, and numbers as `Debug` prints them.
    pub(crate) fn add_texts(&mut self, name: &str, bytes: &[u8]) {
        let list = format!("{:?}", &bytes[..8]);
        let mut texts = vec![hex::encode(bytes), hex::encode_upper(bytes), list.trim_matches(['[', ']']).to_owned()];
        for start in 0..3 {
            let whole = &bytes[start..start + (bytes.len() - start) / 3 * 3];
            texts.extend([STANDARD.encode(whole), URL_SAFE.encode(whole)]);
        }
        texts.iter().for_each(|text| self.add(name, text.as_bytes()));
    }

    /// Runs of values as `Debug` prints them, on one line.
    pub(crate) fn add_value_texts(&mut self, name: &str, values: &[impl std::fmt::Display]) {
        let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
        texts.windows(RUN).map(|run| run.join(", ")).for_each(|text| self.add(name, text.as_bytes()));
    }

    /// One needle of each name.
    pub(crate) fn samples(&self) -> BTreeMap<&str, &[u8]> {
        self.needles.iter().map(|(name, needle)| (name.as_str(), needle.as_slice())).collect()
    }

    /// An encoded input in all forms that this program has for one.
    pub(crate) fn add_input(&mut self, integers: &[i64], bits: RingBits) {
        let ring = RingVector::from_centered(integers, bits).unwrap();
        let elements: Vec<u64> = (0..ring.len()).map(|at| ring.get(at).unwrap()).collect();
        self.add_runs("the input, i64", integers.iter().map(|value| value.to_le_bytes()));
        self.add_runs("the input, u64", elements.iter().map(|value| value.to_le_bytes()));
        if bits.is_narrow() {
            let narrow = |value: u64| u32::try_from(value).unwrap().to_le_bytes();
            self.add_runs("the input, u32", elements.iter().map(|value| narrow(*value)));
            let signed = |value: i64| i32::try_from(value).unwrap().to_le_bytes();
            self.add_runs("the input, i32", integers.iter().map(|value| signed(*value)));
        }
        // From each of eight places on: wherever a buffer begins, the bits stand as in one of them.
        for start in 0..8 {
            let packed = pack(&RingVector::from_centered(&integers[start..], bits).unwrap());
            packed.windows(SHORTEST).for_each(|window| self.add("the input, packed", window));
        }
    }

    fn longest(&self) -> usize {
        self.needles.iter().map(|(_, bytes)| bytes.len()).max().unwrap()
    }

    /// Names of what is in these bytes.
    pub(crate) fn find(&self, bytes: &[u8], found: &mut BTreeSet<String>) {
        // Most pages of a process are zeros, and no needle begins with two of them: these are passed over in one look.
        let mut page = 0;
        while page < bytes.len() {
            let end = bytes.len().min(page + PAGE);
            let first = if !self.zeros_begin && bytes[page..end] == ZEROS[..end - page] { end - 1 } else { page };
            self.find_from(bytes, first..end, found);
            page = end;
        }
    }

    /// Needles that begin at these places.
    fn find_from(&self, bytes: &[u8], places: std::ops::Range<usize>, found: &mut BTreeSet<String>) {
        // Written plainly: this runs over hundreds of megabytes, in a build without optimisation.
        let (begins, mut at) = (self.begins.as_slice(), places.start);
        while at < places.end && at + KEY <= bytes.len() {
            if begins[bytes[at] as usize | (bytes[at + 1] as usize) << 8 | (bytes[at + 2] as usize) << 16] {
                let start = bytes[at..].first_chunk::<KEY>();
                for &needle in start.and_then(|start| self.by_start.get(start)).into_iter().flatten() {
                    let (name, needle) = &self.needles[needle];
                    if bytes[at..].starts_with(needle) {
                        found.insert(name.clone());
                    }
                }
            }
            at += 1;
        }
    }

    /// Names of what is in a process's memory, and the bytes that were read. The process has to be stopped.
    pub(crate) fn find_in_memory(&self, pid: Pid, block: usize) -> (BTreeSet<String>, u64) {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        let maps = fs::read_to_string(format!("{folder}/maps")).unwrap();
        let memory = File::open(format!("{folder}/mem")).unwrap();
        let (mut found, mut read) = (BTreeSet::new(), 0);
        for map in maps.lines() {
            let mut fields = map.split_ascii_whitespace();
            let (range, permissions, path) = (fields.next().unwrap(), fields.next().unwrap(), fields.nth(3));
            // The kernel's own pages cannot be read this way, and hold nothing of the process.
            let kernels = path.is_some_and(|path| path.starts_with("[v"));
            if !permissions.starts_with('r') || kernels {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            let mut window = Vec::new();
            while at < end {
                let len = usize::try_from(end - at).unwrap().min(block);
                // A block begins with the end of the one before: nothing is missed between two.
                let kept = window.len().min(self.longest() - 1);
                window.drain(..window.len() - kept);
                window.resize(kept + len, 0);
                if memory.read_exact_at(&mut window[kept..], at).is_ok() {
                    read += len as u64;
                    self.find(&window, &mut found);
                } else {
                    // Only a mapped file can be shorter than its mapping.
                    assert!(path.is_some_and(|path| path.starts_with('/')), "cannot read {map}");
                    window.clear();
                }
                at += len as u64;
            }
        }
        (found, read)
    }

    /// Names of what is in the files of a folder, and the bytes that were read.
    pub(crate) fn find_in_folder(&self, folder: &Path) -> (BTreeSet<String>, u64) {
        let (mut found, mut read) = (BTreeSet::new(), 0);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let (below, bytes) = self.find_in_folder(&path);
                found.extend(below);
                read += bytes;
            } else {
                let bytes = fs::read(&path).unwrap();
                self.find(&bytes, &mut found);
                read += bytes.len() as u64;
            }
        }
        (found, read)
    }
}

pub(crate) const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Values that nothing else has: between 0.05 and 0.25, no two alike for each site, below the clip norm of the policies here
/// together.
pub(crate) fn recognisable(site: usize, len: usize) -> Vec<f32> {
    let golden = 0.618_034 + f32::from(u8::try_from(site).unwrap()) / 97.0;
    let value = |at: u16| {
        let size = 0.05 + (f32::from(at) * golden).fract() / 5.0;
        if at % 3 == 1 { -size } else { size }
    };
    (0..u16::try_from(len).unwrap()).map(value).collect()
}

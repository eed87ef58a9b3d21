//! A log in JSON, read while it is written.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// The file, as far as it was read.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    at: u64,
    /// A line that is not whole yet.
    rest: Vec<u8>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    /// What the program logged.
    Event(serde_json::Map<String, serde_json::Value>),
    /// What was printed beside the log: notes for people, and panics.
    Text(String),
}

impl Journal {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), at: 0, rest: Vec::new() }
    }

    /// The lines that were written since the last call. A process that was killed may have left half a line.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let got = file.take(READ_MAX).read_to_end(&mut self.rest)?;
        self.at += got as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(Entry::of).collect())
    }
}

impl Entry {
    fn of(line: &str) -> Self {
        match serde_json::from_str(line) {
            Ok(serde_json::Value::Object(fields)) => Self::Event(fields),
            _ => Self::Text(line.to_owned()),
        }
    }

    /// A field that holds text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        match self {
            Self::Event(fields) => fields.get(field)?.as_str(),
            Self::Text(_) => None,
        }
    }
}

/// Bytes that are read at once, at most.
const READ_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn lines_are_read_once_and_only_when_they_are_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut journal = Journal::of(file.path());
        assert_eq!(journal.read().unwrap(), []);
        file.write_all(b"{\"message\":\"step closed\",\"step\":\"ShareKeys\"}\nlistening on\n{\"mess").unwrap();
        let entries = journal.read().unwrap();
        assert_eq!(entries[0].text("step"), Some("ShareKeys"));
        assert_eq!(entries[1], Entry::Text("listening on".to_owned()));
        assert_eq!((entries.len(), journal.read().unwrap().len()), (2, 0));
        file.write_all(b"age\":\"round complete\"}\n").unwrap();
        assert_eq!(journal.read().unwrap()[0].text("message"), Some("round complete"));
    }
}

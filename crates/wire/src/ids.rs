//! Identifiers of tasks and rounds.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A task: a UUID in its 36-character lower-case form (version 7 where the coordinator makes it).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(Box<str>);

/// A round: its task and its number, counted from 1; in text `task.number`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoundId {
    /// The task the round belongs to.
    pub task: TaskId,
    /// Counted from 1.
    pub number: u64,
}

/// A text that names no task or round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a task.
    #[error("a task id is a UUID of 36 lower-case characters")]
    Task,
    /// Not a round.
    #[error("a round id is a task id, a dot, and a number from 1 without leading zeros")]
    Round,
}

impl TaskId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaskId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let shaped = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        if shaped { Ok(Self(text.into())) } else { Err(InvalidId::Task) }
    }
}

impl FromStr for RoundId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (task, number) = text.split_once('.').ok_or(InvalidId::Round)?;
        if !number.starts_with(|first: char| ('1'..='9').contains(&first)) {
            return Err(InvalidId::Round);
        }
        let number = number.parse().map_err(|_| InvalidId::Round)?;
        Ok(Self { task: task.parse()?, number })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for RoundId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.task, self.number)
    }
}

impl fmt::Debug for RoundId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0.into()
    }
}

impl TryFrom<String> for RoundId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<RoundId> for String {
    fn from(id: RoundId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

    #[test]
    fn what_is_written_is_read() {
        let round = format!("{TASK}.17").parse::<RoundId>().expect("well formed");
        assert_eq!((round.task.as_str(), round.number), (TASK, 17));
        assert_eq!(round.to_string(), format!("{TASK}.17"));
    }

    #[test]
    fn one_spelling_only() {
        for bad in ["", "0193A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", "../../etc/passwd", &TASK[1..]] {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidId::Task), "{bad:?}");
        }
        for number in ["0", "01", "-1", "+1", "", "1.2", "18446744073709551616"] {
            assert_eq!(format!("{TASK}.{number}").parse::<RoundId>(), Err(InvalidId::Round), "{number:?}");
        }
    }
}

//! Results on standard output, as text for people or JSON for programs.

use crate::failure::Failure;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::{self, Write as _};

/// `--output`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    form: Form,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        Self { form }
    }

    /// Prints one result: `value` as JSON, or what `text` makes of it.
    pub(crate) fn result<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut out = match self.form {
            Form::Text => text(value),
            Form::Json => serde_json::to_string_pretty(value).map_err(|error| Failure::Stdout(error.into()))?,
        };
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()) {
            // Whoever reads has seen enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(Failure::Stdout),
        }
    }
}

/// A line for people, on standard error.
pub(crate) fn note(line: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A table without lines around it, which reads well and pipes well.
pub(crate) fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, GAP));
    });
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Spaces between columns.
const GAP: u16 = 2;

/// A time for people: UTC, to the second.
pub(crate) fn date(millis: u64) -> String {
    sordino_identity::Utc(millis / 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_begin_and_end_with_words() {
        let text = table(["id", "role"], [["a".into(), "client".into()]]);
        assert_eq!(text, "id  role\na   client\n");
    }
}

//! A copy of the source that mutants are made in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::mutants::{Edit, Mutant};
use crate::report::Failure;

/// A copy of the whole workspace, without what is built.
pub(super) struct Copy {
    root: PathBuf,
}

/// Files as they were before a mutant.
#[must_use = "a mutant that is not undone spoils the next one"]
pub(super) struct Restore(Vec<(PathBuf, String)>);

impl Copy {
    /// Makes the copy what the source is. A file that is the same stays as it is, with its time: cargo builds nothing anew.
    pub(super) fn refresh(source: &Path, root: &Path) -> Result<Self, Failure> {
        let mut wanted = BTreeSet::new();
        list(source, source, &mut wanted)?;
        for file in &wanted {
            let (from, to) = (source.join(file), root.join(file));
            let bytes = fs::read(&from).map_err(|source| Failure::Read { path: from.clone(), source })?;
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                to.parent()
                    .map_or(Ok(()), fs::create_dir_all)
                    .and_then(|()| fs::write(&to, &bytes))
                    .map_err(write(&to))?;
            }
        }
        let mut there = BTreeSet::new();
        list(root, root, &mut there)?;
        for file in there.difference(&wanted) {
            let path = root.join(file);
            fs::remove_file(&path).map_err(write(&path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a mutant. Each of its edits was found to apply once.
    pub(super) fn apply(&self, mutant: &Mutant) -> Result<Restore, Failure> {
        let mut restore = Restore(Vec::new());
        for edit in mutant.edits {
            let Some(path) = edit.places(&self.root).into_iter().next() else { continue };
            let text = read(&path)?;
            let changed = text.replacen(edit.find, edit.replace, 1);
            // The first state of a file is the one to go back to: edits are undone in reverse.
            restore.0.push((path.clone(), text));
            fs::write(&path, changed).map_err(write(&path))?;
        }
        Ok(restore)
    }
}

impl Restore {
    pub(super) fn undo(self) -> Result<(), Failure> {
        self.0.into_iter().rev().try_for_each(|(path, text)| fs::write(&path, text).map_err(write(&path)))
    }
}

impl Edit {
    /// The file of each place where the text stands: one that has it twice is there twice.
    pub(super) fn places(&self, root: &Path) -> Vec<PathBuf> {
        let folder = root.join("crates").join(self.of).join("src");
        let mut files = BTreeSet::new();
        // A folder that cannot be read has no places, which is reported as that.
        let _ = list(&folder, &folder, &mut files);
        let files = files.into_iter().map(|file| folder.join(file));
        files
            .flat_map(|path| vec![path.clone(); read(&path).map_or(0, |text| text.matches(self.find).count())])
            .collect()
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    |source| Failure::Write { path: path.to_owned(), source }
}

/// All files below a folder, by their path in it, but for what is built or hidden; `.cargo` is part of the source.
fn list(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|source| Failure::Read { path: folder.to_owned(), source })?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let is_built = name == "target" || name == "node_modules" || (name.starts_with('.') && name != ".cargo");
            if !is_built {
                list(root, &path, files)?;
            }
        } else if let Ok(file) = path.strip_prefix(root) {
            files.insert(file.to_owned());
        }
    }
    Ok(())
}

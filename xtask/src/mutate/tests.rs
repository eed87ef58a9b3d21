use super::*;
use crate::cargo;

/// A defence that was rewritten takes its mutant along, or nobody would notice that it is not tested any more.
#[test]
fn every_mutant_applies_exactly_once() {
    let mutants: Vec<&Mutant> = all().collect();
    assert_eq!(inapplicable(&cargo::root(), &mutants), []);
}

#[test]
fn mutants_are_many_and_have_names_of_their_own() {
    let mutants: Vec<&Mutant> = all().collect();
    assert!(mutants.len() >= 70, "{}", mutants.len());
    let names: std::collections::BTreeSet<_> = all().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), mutants.len());
    for mutant in mutants {
        assert!(!mutant.tests.is_empty() && !mutant.edits.is_empty(), "{}", mutant.name);
        assert!(mutant.edits.iter().all(|edit| edit.find != edit.replace), "{}", mutant.name);
    }
}

/// CI's are there, and need one test program: the time is in building.
#[test]
fn the_few_of_ci_are_mutants_with_tests_in_one_program() {
    let few: Vec<&Mutant> = all().filter(|mutant| FEW.contains(&mutant.name)).collect();
    assert_eq!(few.len(), FEW.len());
    let programs = few.iter().flat_map(|mutant| mutant.tests).map(|test| (test.package, test.target));
    assert_eq!(programs.collect::<std::collections::BTreeSet<_>>().len(), 1);
}

/// Each named test stands where it is said to be, by its name at least.
#[test]
fn every_named_test_exists() {
    for test in all().flat_map(|mutant| mutant.tests) {
        let folder = test.folder();
        let name = test.name.rsplit("::").next().unwrap_or_default();
        let edit = mutants::Edit { of: folder, find: name, replace: "" };
        let root = cargo::root();
        let in_tests = test.target.get(1).map(|program| root.join(format!("crates/{folder}/tests/{program}.rs")));
        let text = in_tests.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        // A program of several files has a folder.
        let of_folder = test
            .target
            .get(1)
            .is_some_and(|program| is_below(&root.join(format!("crates/{folder}/tests/{program}")), name));
        assert!(text.contains(name) || of_folder || !edit.places(&root).is_empty(), "{}", test.shown());
    }
}

/// Whether a text stands in a file of a folder, or of those in it.
fn is_below(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        is_below(&path, text) || std::fs::read_to_string(path).is_ok_and(|found| found.contains(text))
    })
}

#[test]
fn a_text_that_is_missing_or_stands_twice_is_reported() {
    let edit = |find| mutants::Edit { of: "secagg", find, replace: "" };
    for (find, times) in [("there is no such text in the crate", "0 times"), ("#[must_use]", "times")] {
        let edits = Box::leak(Box::new([edit(find)]));
        let mutant = Mutant { name: "a test", edits, tests: &[] };
        let found = inapplicable(&cargo::root(), &[&mutant]);
        assert!(matches!(&found[..], [one] if one.to_string().contains(times)), "{found:?}");
    }
    assert_eq!(unknown(&["no such mutant".to_owned()]).len(), 1);
}

#[test]
fn a_copy_follows_its_source_and_a_mutant_can_be_undone() {
    let folder = std::env::temp_dir().join(format!("xtask-mutate-{}", std::process::id()));
    let (source, copy) = (folder.join("source"), folder.join("copy"));
    let file = "crates/secagg/src/one.rs";
    std::fs::create_dir_all(source.join("crates/secagg/src")).expect("a folder");
    std::fs::create_dir_all(source.join("target")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(source.join(name), text).expect("a file");
    write(file, "let a = 1;\nlet b = 2;\n");
    write("target/built", "");
    write("old", "");
    Copy::refresh(&source, &copy).expect("a copy");
    assert!(copy.join("old").exists() && !copy.join("target").exists());
    std::fs::remove_file(source.join("old")).expect("there");
    let before = std::fs::metadata(copy.join(file)).and_then(|meta| meta.modified()).expect("a time");
    let made = Copy::refresh(&source, &copy).expect("a copy");
    assert!(!copy.join("old").exists());
    assert_eq!(std::fs::metadata(copy.join(file)).and_then(|meta| meta.modified()).expect("a time"), before);

    let edits = &[
        mutants::Edit { of: "secagg", find: "a = 1", replace: "a = 3" },
        mutants::Edit { of: "secagg", find: "b = 2", replace: "b = 4" },
    ];
    let restore = made.apply(&Mutant { name: "a test", edits, tests: &[] }).expect("applies");
    let text = || std::fs::read_to_string(copy.join(file)).expect("a file");
    assert_eq!(text(), "let a = 3;\nlet b = 4;\n");
    restore.undo().expect("undone");
    assert_eq!(text(), "let a = 1;\nlet b = 2;\n");
    std::fs::remove_dir_all(folder).expect("removed");
}

//! The known answers of version 2, computed again by a program in another language that was written from
//! `docs/protocol.md`: what two implementations agree on is what the description says.

use std::env;
use std::path::Path;
use std::process::Command;

/// Whoever names an interpreter in `SORDINO_PYTHON` wants no skipping.
#[test]
#[expect(clippy::print_stderr, reason = "a check that did not take place says so")]
fn another_implementation_agrees() {
    let named = env::var_os("SORDINO_PYTHON");
    let interpreter = named.clone().unwrap_or_else(|| "python3".into());
    let python = |arguments: &[&str]| Command::new(&interpreter).arg("-B").args(arguments).output();
    if !python(&["-c", "import cryptography, numpy"]).is_ok_and(|found| found.status.success()) {
        assert!(named.is_none(), "SORDINO_PYTHON names an interpreter without `cryptography` and `numpy`");
        eprintln!("skipped: needs python3 with vectors/secagg/requirements.txt");
        return;
    }
    let path = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        path.to_str().expect("a readable path").to_owned()
    };
    let vectors = "../../vectors/secagg";
    let run = python(&[
        &path(&format!("{vectors}/check_protocol.py")),
        &path(&format!("{vectors}/protocol-v3.json")),
        &path("tests/vectors/wycheproof"),
    ]);
    let run = run.expect("it was found just now");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), "ok");
}

//! The known answers of version 1, computed again by a program in another language that was written from
//! `docs/protocol.md`: what two implementations agree on is what the description says.

use std::path::Path;
use std::process::Command;

#[test]
#[expect(clippy::print_stderr, reason = "a check that did not take place says so")]
fn another_implementation_agrees() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import cryptography"]).is_ok_and(|found| found.status.success()) {
        eprintln!("skipped: needs python3 with the package `cryptography`");
        return;
    }
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let path = |name: &str| vectors.join(name).to_str().expect("a readable path").to_owned();
    let run = python(&[&path("check_protocol_v1.py"), &path("protocol-v1.json")]).expect("it was found just now");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), "ok");
}

//! Keeps this process's memory out of core dumps: keys, shares and inputs would be in it.

use crate::output;

/// Asks the system for no core file, and on Linux for no dump at all, which also closes the memory to other processes of
/// the same user. A system that refuses is told of, and no reason not to work.
pub(crate) fn forbid() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        note("the core file size", setrlimit(Resource::Core, none));
    }
    #[cfg(target_os = "linux")]
    {
        // A core pattern that begins a program is not held by the limit.
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        note("dumps", set_dumpable_behavior(DumpableBehavior::NotDumpable));
    }
}

#[cfg(unix)]
fn note(what: &str, done: rustix::io::Result<()>) {
    if let Err(error) = done {
        output::note(&format!(
            "the system does not let this process limit {what} ({error}): a crash may write secrets"
        ));
    }
}

//! Points at which this process kills or stops itself, for the tests of restarts: in the store itself, in the coordinator
//! and in the participant, which have the store in common. Behind `test-util` of this crate: no build that is shipped has
//! a point.

/// Says that the process has come to a point, named as by `format!`. Nothing unless this crate has `test-util`.
#[cfg(all(unix, feature = "test-util"))]
#[macro_export]
macro_rules! crash_point {
    ($($name:tt)*) => {
        $crate::crash::reached(&format!($($name)*));
    };
}

/// Says that the process has come to a point, named as by `format!`. Nothing unless this crate has `test-util`.
#[cfg(not(all(unix, feature = "test-util")))]
#[macro_export]
macro_rules! crash_point {
    ($($name:tt)*) => {};
}

/// Where the file that `SORDINO_CRASH_AT` names says `kill NAME` or `stop NAME`, it is taken away, and this process gets
/// SIGKILL or SIGSTOP. The file is the memory of it: a process that is started again goes on.
#[cfg(all(unix, feature = "test-util"))]
pub fn reached(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    let Some((file, order)) = armed(name) else { return };
    let signal = if order == Order::Kill { Signal::KILL } else { Signal::STOP };
    // Several threads may come here at once: the one that takes the file away does it.
    if std::fs::remove_file(&file).is_ok() && kill_process(getpid(), signal).is_ok() {
        // The signal may meet another thread first: this one goes no further before it is here.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Whether the process will end when it comes to this point: for what has to be left half done before.
#[cfg(all(unix, feature = "test-util"))]
pub(crate) fn is_armed(name: &str) -> bool {
    armed(name).is_some()
}

#[cfg(all(unix, feature = "test-util"))]
#[derive(PartialEq)]
enum Order {
    Kill,
    Stop,
}

#[cfg(all(unix, feature = "test-util"))]
fn armed(name: &str) -> Option<(std::path::PathBuf, Order)> {
    let file = std::path::PathBuf::from(std::env::var_os("SORDINO_CRASH_AT")?);
    let armed = std::fs::read_to_string(&file).ok()?;
    let order = match armed.trim().split_once(' ')? {
        ("kill", point) if point == name => Order::Kill,
        ("stop", point) if point == name => Order::Stop,
        _ => return None,
    };
    Some((file, order))
}

//! Points at which this process kills or stops itself, for the tests of restarts: the same code in coordinator and
//! participant, since neither knows the other. Behind `test-util`: no build that is shipped has a point.

/// Says that the process has come to a point, named as by `format!`. Nothing without `test-util`.
macro_rules! crash_point {
    ($($name:tt)*) => {
        #[cfg(all(unix, feature = "test-util"))]
        $crate::crash::reached(&format!($($name)*));
    };
}

/// Where the file that `SORDINO_CRASH_AT` names says `kill NAME` or `stop NAME`, it is taken away, and this process gets
/// SIGKILL or SIGSTOP. The file is the memory of it: a process that is started again goes on.
#[cfg(all(unix, feature = "test-util"))]
pub(crate) fn reached(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    let Some(file) = std::env::var_os("SORDINO_CRASH_AT") else { return };
    let Ok(armed) = std::fs::read_to_string(&file) else { return };
    let signal = match armed.trim().split_once(' ') {
        Some(("kill", point)) if point == name => Signal::KILL,
        Some(("stop", point)) if point == name => Signal::STOP,
        _ => return,
    };
    // Several threads may come here at once: the one that takes the file away does it.
    if std::fs::remove_file(&file).is_ok() && kill_process(getpid(), signal).is_ok() {
        // The signal may meet another thread first: this one goes no further before it is here.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

//! A process with a ledger of its own, which does as it is told: one order on a line, one answer on a line.

use super::{KEY, NOW, ask, counter_in, key, ledger_in, scope, terms, unless_locked};
use crate::crash::{DATA_OF_CHILD, data_of_child};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sordino_dp::ledger::Standing;
use sordino_store::{LedgerStoreError, PrivacyLedger};
use std::{
    env, fs,
    io::{BufRead, BufReader, Lines, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The parent's end.
pub(super) struct Obedient {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    crash_at: PathBuf,
}

impl Obedient {
    /// Starts this test program again.
    pub(super) fn start(folder: &Path) -> Self {
        let crash_at = folder.join("crash");
        let mut child = Command::new("sh")
            // Writes beyond the limit fail instead of killing.
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact --ignored --nocapture \"$1\""])
            .arg(env::current_exe().unwrap())
            .arg("ledger::child::does_as_it_is_told")
            .env(DATA_OF_CHILD, folder)
            .env("SORDINO_CRASH_AT", &crash_at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, orders, answers: BufReader::new(answers).lines(), crash_at }
    }

    /// Has something done; none where the process died of it.
    pub(super) fn order(&mut self, order: &str) -> Option<String> {
        writeln!(self.orders, "{order}").unwrap();
        // The harness prints lines of its own, and the name of the test in front of the first.
        self.answers.by_ref().find_map(|line| Some(line.ok()?.split_once(ANSWER)?.1.to_owned()))
    }

    /// Has it open the ledger, as [`super::open`] does.
    pub(super) fn open(&mut self) {
        let opened = unless_locked(|| Some(self.order("open").unwrap()).filter(|answer| !answer.starts_with("Locked")));
        assert_eq!(opened, "done");
    }

    /// Has it kill itself when it comes to this point the next time.
    pub(super) fn arm(&self, point: &str) {
        fs::write(&self.crash_at, format!("kill {point}")).unwrap();
    }

    /// Gives the order that it dies of, at the point that was armed.
    pub(super) fn order_is_its_death(mut self, order: &str) {
        let answer = self.order(order);
        assert_eq!(answer, None, "it was to die");
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        assert!(!self.crash_at.exists(), "it died somewhere else");
    }

    /// Lets it end by itself.
    pub(super) fn end(mut self) {
        drop(self.orders);
        assert_eq!(self.answers.find_map(|line| Some(line.ok()?.split_once(ANSWER)?.1.to_owned())), None);
        assert!(self.child.wait().unwrap().success());
    }
}

#[tokio::test]
#[ignore = "the process that others start"]
async fn does_as_it_is_told() {
    let Some(folder) = data_of_child() else { return };
    let mut ledger = None;
    for order in std::io::stdin().lines() {
        let answer = match obey(&folder, &mut ledger, &order.unwrap()).await {
            Ok(answer) => answer,
            Err(why) => {
                let kind = format!("{why:?}");
                let kind = kind.split(|letter: char| !letter.is_alphabetic()).next().unwrap();
                format!("{kind}: {why}")
            }
        };
        // One write call: a line is in the pipe as a whole or not at all.
        let mut out = std::io::stdout().lock();
        out.write_all(format!("{ANSWER}{answer}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

async fn obey(folder: &Path, ledger: &mut Option<PrivacyLedger>, order: &str) -> Result<String, LedgerStoreError> {
    let (verb, argument) = order.split_once(' ').unwrap_or((order, ""));
    match (verb, &ledger) {
        ("open", _) => {
            *ledger = Some(PrivacyLedger::open(&ledger_in(folder), &counter_in(folder), key(KEY)).await?);
        }
        ("scope", Some(ledger)) => ledger.open_scope(scope(), terms(), NOW).await?,
        ("reserve", Some(ledger)) => {
            let granted = ledger.reserve(ask(argument.parse().unwrap()), NOW).await?.unwrap();
            let standing = if granted.standing == Standing::New { "granted" } else { "granted before" };
            return Ok(format!("{standing} {}", granted.id));
        }
        // Numbers are written so that they read back as they are.
        ("spent", Some(ledger)) => return Ok(ledger.spending(&scope()).await?.unwrap().spent.to_string()),
        // Bytes that a file may have, as if the disk were full then.
        ("limit", _) => {
            let maximum = getrlimit(Resource::Fsize).maximum;
            let current = if argument == "none" { maximum } else { Some(argument.parse().unwrap()) };
            setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
        }
        _ => panic!("{order}"),
    }
    Ok("done".into())
}

const ANSWER: &str = "answer: ";

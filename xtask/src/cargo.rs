//! Cargo, rustc and what they know about this workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{Artifact, Message, Metadata, MetadataCommand};

use crate::report::Failure;

/// The workspace's root folder.
///
/// Asked at run time, since a target folder may be moved or shared; the compiled-in path serves a
/// binary that is started by hand.
pub(crate) fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Formats all crates, or only says whether they are formatted.
pub(crate) fn fmt(check: bool) -> Result<(), Failure> {
    let mut command = cargo(["fmt", "--all"]);
    if check {
        command.arg("--check");
    }
    run(&mut command)
}

/// Runs the tests: all of them and the doc tests, or with `args` the ones these select.
pub(crate) fn test(args: &[String]) -> Result<(), Failure> {
    let mut tests = if has_nextest() {
        cargo(["nextest", "run"])
    } else {
        eprintln!("cargo-nextest is not installed, `cargo test` does the same, slower");
        cargo(["test"])
    };
    if !selects_package(args) {
        tests.arg("--workspace");
    }
    run(tests.arg("--locked").args(args))?;
    if args.is_empty() {
        // nextest does not run doc tests.
        run(&mut cargo(["test", "--workspace", "--doc", "--locked"]))?;
    }
    Ok(())
}

/// Runs simulated worlds. The dev profile is enough: all that takes time is optimised there too.
pub(crate) fn sim(seeds: u64, first: u64, log: bool) -> Result<(), Failure> {
    let mut command = cargo(["run", "--locked", "-p", "sordino-sim", "--"]);
    command.args(["--seeds", &seeds.to_string(), "--first", &first.to_string()]);
    if log {
        command.arg("--log");
    }
    run(&mut command)
}

/// The packages and the graph that is built on this machine, from `Cargo.lock` as it is.
pub(crate) fn metadata() -> Result<Metadata, Failure> {
    metadata_of("Cargo.toml")
}

/// The same of another workspace of ours, by its manifest, seen from the root.
pub(crate) fn metadata_of(manifest: &'static str) -> Result<Metadata, Failure> {
    let locked = ["--locked".to_owned(), format!("--filter-platform={}", host()?)];
    MetadataCommand::new()
        .cargo_path(program())
        .current_dir(root())
        .manifest_path(root().join(manifest))
        .other_options(locked)
        .exec()
        .map_err(|source| Failure::Metadata { manifest, source })
}

/// A cargo command in the workspace's root.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program());
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let text = shown(command);
    eprintln!("$ {text}");
    let status = command.status().map_err(|source| Failure::Start { command: text.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Failure::Command { command: text, status }) }
}

/// Runs a command to its end and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let text = shown(command);
    eprintln!("$ {text}");
    let output = command.output().map_err(|source| Failure::Start { command: text.clone(), source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Failure::Command { command: text, status: output.status })
    }
}

/// The executable that was wanted of those that cargo's messages name (`--message-format=json`).
pub(crate) fn executable(messages: &str, wanted: impl Fn(&Artifact) -> bool) -> Option<PathBuf> {
    Message::parse_stream(messages.as_bytes()).filter_map(Result::ok).find_map(|message| match message {
        Message::CompilerArtifact(artifact) if wanted(&artifact) => artifact.executable.map(Into::into),
        _ => None,
    })
}

/// Cargo names itself to what it runs, so that a chosen toolchain stays chosen.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn has_nextest() -> bool {
    cargo(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// True where the caller chose packages, so that `--workspace` would undo the choice.
fn selects_package(args: &[String]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| {
        arg == "--workspace" || arg.starts_with("--package") || (arg.starts_with("-p") && !arg.starts_with("--"))
    })
}

/// The platform we build on, as rustc calls it.
pub(crate) fn host() -> Result<String, Failure> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.arg("-vV").current_dir(root());
    let text = shown(&command);
    let output = command.output().map_err(|source| Failure::Start { command: text, source })?;
    let version = String::from_utf8_lossy(&output.stdout);
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).ok_or(Failure::NoHost)
}

fn shown(command: &Command) -> String {
    // The full path of cargo says nothing; the variables we set do.
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let envs = command.get_envs().filter_map(|(key, value)| Some(format!("{}={}", key.display(), value?.display())));
    let args = command.get_args().map(|arg| arg.display().to_string());
    envs.chain([program.display().to_string()]).chain(args).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_package_replaces_the_whole_workspace() {
        for (args, want) in [
            (&["-p", "sordino-codec"][..], true),
            (&["-psordino-codec"], true),
            (&["--package=sordino-codec"], true),
            (&["--workspace"], true),
            (&["--profile", "ci"], false),
            (&["clip", "--", "-p"], false),
            (&[], false),
        ] {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(selects_package(&args), want, "{args:?}");
        }
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["clippy", "-p", "x"]).env("CLIPPY_CONF_DIR", "lints/core");
        assert_eq!(shown(&command), "CLIPPY_CONF_DIR=lints/core cargo clippy -p x");
    }

    #[test]
    fn a_program_that_says_no_is_a_failure() {
        let failed = run(&mut cargo(["no-such-subcommand-of-cargo"]));
        assert!(matches!(failed, Err(Failure::Command { .. })), "{failed:?}");
        let missing = run(&mut Command::new("no-such-program-anywhere"));
        assert!(matches!(missing, Err(Failure::Start { .. })), "{missing:?}");
    }

    #[test]
    fn an_executable_is_found_among_cargos_messages() {
        let artifact = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x#{name}@0.1.0","manifest_path":"/x/Cargo.toml","target":{{"kind":["lib"],"crate_types":["lib"],"name":"{name}","src_path":"/x/src/lib.rs","edition":"2024","doc":true,"doctest":true,"test":true}},"profile":{{"opt_level":"3","debuginfo":1,"debug_assertions":true,"overflow_checks":true,"test":{test}}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
            )
        };
        let messages = [
            artifact("aes", false, "null"),
            artifact("sordino_kernel", true, r#""/x/target/debug/deps/sordino_kernel-1""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let tests = |messages: &str| executable(messages, |artifact| artifact.profile.test);
        assert_eq!(tests(&messages.join("\n")), Some("/x/target/debug/deps/sordino_kernel-1".into()));
        assert_eq!(tests(&messages[0]), None);
        assert_eq!(tests("not json"), None);
    }
}

//! The binary `sordino`: every command of coordinator, participant and operator.
//!
//! A shell around the crates that do the work. Results go to standard output, as text or JSON; everything else goes to
//! standard error. What a command does stands in the module of its noun; [`failure`] says what goes wrong, how it is
//! printed, and with which code the process ends.

use clap::{Parser, Subcommand};
use failure::Failure;
use output::Output;
use std::process::ExitCode;

mod bench;
mod budget;
mod config;
mod dataset;
mod demo;
mod dev;
mod dumps;
mod duration;
mod failure;
mod files;
mod init;
mod invite;
mod join;
mod logs;
mod model;
mod output;
mod participant;
mod policy;
mod remote;
mod round;
mod serve;
mod signals;
mod task;
mod train;

/// Secure federated computation: sites train a model together, the coordinator sees sums only.
#[derive(Parser)]
#[command(name = "sordino", version, after_help = AFTER_HELP)]
struct Cli {
    /// Form of the result on standard output.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    output: output::Form,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(Box<demo::Demo>),
    Init(init::Init),
    Serve(serve::Serve),
    Invite(invite::Invite),
    Join(join::Join),
    Train(Box<train::Train>),
    #[command(subcommand)]
    Task(task::Task),
    #[command(subcommand)]
    Round(round::Round),
    #[command(subcommand)]
    Participant(participant::Participant),
    #[command(subcommand)]
    Model(model::Model),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Budget(budget::Budget),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    // clap prints help and usage itself, and ends with 0 or 2.
    let Cli { output, command } = Cli::parse();
    dumps::forbid();
    match run(command, Output::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit().into()
        }
    }
}

fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Demo(demo) => wait(demo.run(output)),
        Command::Init(init) => wait(init.run(output)),
        Command::Serve(serve) => wait(serve.run()),
        Command::Invite(invite) => wait(invite.run(output)),
        Command::Join(join) => wait(join.run(output)),
        Command::Train(train) => wait(train.run(output)),
        Command::Task(task) => wait(task.run(output)),
        Command::Round(round) => wait(round.run(output)),
        Command::Participant(participant) => wait(participant.run(output)),
        Command::Model(model) => wait(model.run(output)),
        Command::Policy(policy) => policy.run(output),
        Command::Budget(budget) => wait(budget.run(output)),
        Command::Config(config) => config.run(output),
        Command::Bench(bench) => bench.run(output),
    }
}

fn wait(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let result = runtime.block_on(work);
    // A task that still blocks, such as a training program, must not hold up the end of the process.
    runtime.shutdown_background();
    result
}

const AFTER_HELP: &str = "\
Example: a federation on this machine, from nothing
  sordino init fed --federation hospitals.example --name localhost --listen 127.0.0.1:8443
  sordino serve --config fed/sordino.toml &
  sordino invite --as fed/admin --server https://localhost:8443 hospital-a > a.invitation
  sordino join site-a --id hospital-a --invitation a.invitation
  sordino train site-a --data rows.csv

Exit codes
  0    done
  1    failed: a file, a value, a step of the work
  2    the command line is wrong
  3    the coordinator refused
  4    the coordinator cannot be reached
  130  interrupted";

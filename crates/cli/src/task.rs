//! `sordino task`

use crate::{
    failure::Failure,
    files, model,
    output::{Output, date, note, table},
    policy,
    remote::{Remote, all},
};
use sordino_codec::{FileLimits, Tensors};
use sordino_wire::{
    TaskId,
    api::{self, TaskRequest, TaskState},
};
use std::path::PathBuf;

/// Create tasks and see how they stand.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    Create(Create),
    List(List),
    Show(Show),
}

/// Create a task: upload its first model, submit its policy.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino model init --architecture mlp-64-32-10 --seed 1 first.safetensors
  sordino task create --as fed/admin --server https://localhost:8443 --policy policy.toml --model first.safetensors

Policy and model are checked here before anything is sent. The id of the task is the result.")]
pub(crate) struct Create {
    #[command(flatten)]
    remote: Remote,
    /// The policy, TOML.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The first model, safetensors.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
}

/// List all tasks.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino task list --as fed/admin --server https://localhost:8443")]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

/// Show one task with its policy.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino task show --as site-a 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
pub(crate) struct Show {
    #[command(flatten)]
    remote: Remote,
    /// The task.
    #[arg(value_name = "TASK")]
    id: TaskId,
}

impl Task {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(output).await,
            Self::List(List { remote }) => {
                let tasks: Vec<api::Task> = all(&remote.client()?, "/v1/tasks").await?;
                output.result(&tasks, |tasks| {
                    let row = |task: &api::Task| {
                        let rounds = format!("{}/{}", completed(task), task.policy.task.rounds);
                        let name = task.policy.task.name.clone();
                        [task.id.to_string(), name, state(task.state).into(), rounds, date(task.created_at)]
                    };
                    table(["TASK", "NAME", "STATE", "ROUNDS", "CREATED"], tasks.iter().map(row))
                })
            }
            Self::Show(Show { remote, id }) => {
                let task: api::Task = remote.client()?.get(&format!("/v1/tasks/{id}")).await?;
                output.result(&task, show)
            }
        }
    }
}

impl Create {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let (text, checked) = policy::load(&self.policy)?;
        let bytes = files::read(&self.model, model::FILE_BYTES_MAX)?;
        let refused = |source| Failure::ModelFile { path: self.model.clone(), source };
        let tensors = Tensors::from_safetensors(&bytes, &FileLimits::default()).map_err(refused)?;
        let model_len = tensors.layout().len();
        policy::encoding(&self.policy, &checked, model_len)?;
        let client = self.remote.client()?;
        // In the one form that sites take: without metadata, for one.
        let model = client.put_model(&tensors.to_safetensors()).await?;
        let task: api::Task = client.post("/v1/tasks", &TaskRequest { policy: text, model }).await?;
        output.result(&task, |task| task.id.to_string())?;
        note(&format!(
            "task {:?} of {} rounds on a model of {model_len} values",
            task.policy.task.name, task.policy.task.rounds
        ));
        Ok(())
    }
}

fn show(task: &api::Task) -> String {
    let policy = toml::to_string(&task.policy).unwrap_or_default();
    let reason = task.reason.iter().map(|reason| format!("because        {reason}\n"));
    let left_out = task.left_out.iter().map(|(id, why)| format!("left out       {id}: {why}\n"));
    let standing: String = reason.chain(left_out).collect();
    format!(
        "task           {}\nstate          {}\n{standing}rounds done    {} of {}\nmodel          {}\nmodel values   {}\n\
         policy digest  {}\ncreated        {}\n\n{policy}",
        task.id,
        state(task.state),
        completed(task),
        task.policy.task.rounds,
        task.model,
        task.model_len,
        task.policy_digest,
        date(task.created_at),
    )
}

/// Rounds before the one that is under way or next.
fn completed(task: &api::Task) -> u64 {
    task.round.saturating_sub(1)
}

fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Active => "active",
        TaskState::Complete => "complete",
        TaskState::Halted => "halted",
    }
}

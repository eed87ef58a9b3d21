//! The participants' processes. One that vanishes, or is killed from outside, is started again at once; it waits for the
//! next round.

use super::{INPUTS, cannot_write, faults::Faults, scene::Scene, site_id};
use crate::{
    failure::{DemoError, Exit, Failure},
    output::note,
};
use sordino_identity::{Invitation, PrincipalId, Role};
use sordino_participant::{Client, join as join_federation};
use sordino_wire::{
    TaskId,
    api::{JoinTokenAnswer, JoinTokenRequest},
};
use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{process::Command, task::JoinSet};

/// Rows that the sites load.
pub(super) struct Rows {
    pub(super) data: Option<PathBuf>,
    pub(super) divisor: Option<f32>,
}

/// Every participant, each watched over.
pub(super) struct Sites(JoinSet<Result<(), Failure>>);

pub(super) fn ids(count: u32) -> Result<Vec<PrincipalId>, Failure> {
    (0..count).map(site_id).collect()
}

/// Invites every site and lets it join: each makes its key in its own folder.
pub(super) async fn join(folder: &Path, admin: &Client, ids: &[PrincipalId]) -> Result<(), Failure> {
    for id in ids {
        let request = JoinTokenRequest { principal: id.clone(), role: Role::Client, expires_in: INVITED_SECONDS };
        let answer: JoinTokenAnswer = admin.post("/v1/join-tokens", &request).await?;
        let invitation: Invitation = answer
            .invitation
            .parse()
            .map_err(|source| Failure::Invitation { from: "the coordinator's answer".into(), source })?;
        join_federation(&site_folder(folder, id), &invitation, id, None).await?;
    }
    Ok(())
}

impl Sites {
    /// Nobody yet.
    pub(super) fn none() -> Self {
        Self(JoinSet::new())
    }

    pub(super) fn start(
        &mut self,
        folder: &Path,
        ids: &[PrincipalId],
        task: &TaskId,
        rows: &Rows,
        (scene, faults): (&Scene, &Faults),
    ) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(DemoError::Process)?;
        for (number, id) in (0u32..).zip(ids) {
            let mut arguments: Vec<std::ffi::OsString> = vec![
                "train".into(),
                site_folder(folder, id).into(),
                "--task".into(),
                task.as_str().into(),
                "--seed".into(),
                scene.seed_of(number).to_string().into(),
                "--insecure-dev".into(),
                "--dev-dump".into(),
                folder.join(INPUTS).into(),
                "--dev-split".into(),
                scene.split(number).into(),
            ];
            if let Some(data) = &rows.data {
                arguments.extend(["--data".into(), data.into()]);
            }
            if let Some(divisor) = rows.divisor {
                arguments.extend(["--scale".into(), divisor.to_string().into()]);
            }
            let vanish = faults.of_site(number).iter().map(|(round, step)| format!("{round}:{step}"));
            let vanish = vanish.collect::<Vec<_>>().join(",");
            if !vanish.is_empty() {
                arguments.extend(["--dev-vanish".into(), vanish.into()]);
            }
            if let Some(attack) = scene.attackers.as_ref().and_then(|attackers| attackers.of_site(number)) {
                arguments.extend(["--dev-attack".into(), attack.to_string().into()]);
            }
            let log = folder.join("logs").join(format!("{id}.log"));
            self.0.spawn(keep_running(program.clone(), arguments, log, id.clone()));
        }
        Ok(())
    }

    /// Ends whoever still runs.
    pub(super) async fn stop(&mut self) {
        self.0.shutdown().await;
    }

    /// Resolves when a site ends that should not have.
    pub(super) async fn failed(&mut self) -> Failure {
        loop {
            match self.0.join_next().await {
                Some(Ok(Err(failure))) => return failure,
                Some(Err(_)) => return DemoError::Cut.into(),
                Some(Ok(Ok(()))) => {}
                // All have done their rounds; whoever waits for the last round to be told goes on waiting.
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until every site has noticed that the task is complete.
    pub(super) async fn ended(&mut self) {
        let all = async { while let Some(Ok(Ok(()))) = self.0.join_next().await {} };
        // A site that still waits is stopped with the run.
        let _: Result<(), tokio::time::error::Elapsed> = tokio::time::timeout(END_WITHIN, all).await;
    }
}

async fn keep_running(
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    log: PathBuf,
    id: PrincipalId,
) -> Result<(), Failure> {
    let mut killed = 0;
    loop {
        let file = OpenOptions::new().create(true).append(true).open(&log).map_err(cannot_write(&log))?;
        let mut command = Command::new(&program);
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let status = command.status().await.map_err(DemoError::Process)?;
        match status.code() {
            Some(0) => return Ok(()),
            Some(code) if code == Exit::Vanished as i32 => {}
            // Somebody tries what it stands; one that dies of itself again and again is a defect.
            None if killed < KILLED_MAX => {
                killed += 1;
                note(&format!("participant {id} was killed from outside ({status}); it is started again"));
            }
            _ => return Err(DemoError::Site { id: id.to_string(), log }.into()),
        }
    }
}

fn site_folder(folder: &Path, id: &PrincipalId) -> PathBuf {
    folder.join("sites").join(id.as_str())
}

/// How often a site that was ended by a signal is started again.
const KILLED_MAX: u32 = 5;
const INVITED_SECONDS: u64 = 600;
const END_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

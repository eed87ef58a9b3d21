//! The table of roles and permissions, and the token scope that follows from a role.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Role;

/// One thing a route of the service lets a principal do. Every route names the one it needs.
///
/// Enrolment has none: whoever redeems a join secret is not a principal yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Get an access token for one's own certificate.
    ObtainToken,
    /// See tasks and their policies.
    ReadTasks,
    /// Create a task under a policy.
    CreateTask,
    /// Pause, resume or end a task and its rounds.
    ControlTask,
    /// See rounds, their state and figures.
    ReadRounds,
    /// Check in to a round and send protocol messages and an input.
    TakePartInRound,
    /// Download a model's weights.
    ReadModel,
    /// Upload a model as a task's starting point.
    WriteModel,
    /// See the manifest of a Release.
    ReadRelease,
    /// See who belongs to the federation.
    ReadParticipants,
    /// Invite a participant: issue a one-time join token.
    IssueJoinToken,
    /// Shut a participant out.
    RevokeParticipant,
    /// Read the service's metrics.
    ReadMetrics,
    /// See privacy budgets; a participant sees its own account.
    ReadBudget,
    /// See the privacy ledger's history, which names everybody.
    ReadLedger,
    /// Open a privacy budget for a population or data version that has none yet.
    OpenBudget,
}

impl Permission {
    /// Every permission, in the order of declaration.
    pub const ALL: [Self; 16] = [
        Self::ObtainToken,
        Self::ReadTasks,
        Self::CreateTask,
        Self::ControlTask,
        Self::ReadRounds,
        Self::TakePartInRound,
        Self::ReadModel,
        Self::WriteModel,
        Self::ReadRelease,
        Self::ReadParticipants,
        Self::IssueJoinToken,
        Self::RevokeParticipant,
        Self::ReadMetrics,
        Self::ReadBudget,
        Self::ReadLedger,
        Self::OpenBudget,
    ];

    /// The permission as it stands in JSON and in the printed table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ObtainToken => "obtain_token",
            Self::ReadTasks => "read_tasks",
            Self::CreateTask => "create_task",
            Self::ControlTask => "control_task",
            Self::ReadRounds => "read_rounds",
            Self::TakePartInRound => "take_part_in_round",
            Self::ReadModel => "read_model",
            Self::WriteModel => "write_model",
            Self::ReadRelease => "read_release",
            Self::ReadParticipants => "read_participants",
            Self::IssueJoinToken => "issue_join_token",
            Self::RevokeParticipant => "revoke_participant",
            Self::ReadMetrics => "read_metrics",
            Self::ReadBudget => "read_budget",
            Self::ReadLedger => "read_ledger",
            Self::OpenBudget => "open_budget",
        }
    }
}

impl Role {
    /// Whether this role has `permission`. No wildcard: a new role or permission does not compile until its cells are
    /// filled in.
    ///
    /// Who admits participants and opens privacy budgets (`Admin`) is a separate power from who runs rounds
    /// (`Coordinator`): a new name for a population must not be a way to a new budget. Nobody but a participant puts an
    /// input into a sum.
    pub const fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Client => match permission {
                P::ObtainToken
                | P::ReadTasks
                | P::ReadRounds
                | P::TakePartInRound
                | P::ReadModel
                | P::ReadRelease
                | P::ReadBudget => true,
                P::CreateTask
                | P::ControlTask
                | P::WriteModel
                | P::ReadParticipants
                | P::IssueJoinToken
                | P::RevokeParticipant
                | P::ReadMetrics
                | P::ReadLedger
                | P::OpenBudget => false,
            },
            Self::Coordinator => match permission {
                P::ObtainToken
                | P::ReadTasks
                | P::CreateTask
                | P::ControlTask
                | P::ReadRounds
                | P::ReadModel
                | P::WriteModel
                | P::ReadRelease
                | P::ReadParticipants
                | P::ReadMetrics
                | P::ReadBudget
                | P::ReadLedger => true,
                P::TakePartInRound | P::IssueJoinToken | P::RevokeParticipant | P::OpenBudget => false,
            },
            Self::Admin => match permission {
                P::ObtainToken
                | P::ReadTasks
                | P::CreateTask
                | P::ControlTask
                | P::ReadRounds
                | P::ReadModel
                | P::WriteModel
                | P::ReadRelease
                | P::ReadParticipants
                | P::IssueJoinToken
                | P::RevokeParticipant
                | P::ReadMetrics
                | P::ReadBudget
                | P::ReadLedger
                | P::OpenBudget => true,
                P::TakePartInRound => false,
            },
            Self::Auditor => match permission {
                P::ObtainToken
                | P::ReadTasks
                | P::ReadRounds
                | P::ReadRelease
                | P::ReadParticipants
                | P::ReadMetrics
                | P::ReadBudget
                | P::ReadLedger => true,
                P::CreateTask
                | P::ControlTask
                | P::TakePartInRound
                | P::ReadModel
                | P::WriteModel
                | P::IssueJoinToken
                | P::RevokeParticipant
                | P::OpenBudget => false,
            },
        }
    }

    /// The scope an access token of this role carries.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Client => Scope::Train,
            Self::Coordinator | Self::Admin => Scope::Admin,
            Self::Auditor => Scope::Readonly,
        }
    }
}

/// What an access token is for. It follows from the role and is checked against it; it grants nothing beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Take part in rounds.
    Train,
    /// Run tasks and the federation.
    Admin,
    /// Look, never change.
    Readonly,
}

impl Scope {
    /// The scope as it stands in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Admin => "admin",
            Self::Readonly => "readonly",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Columns in the order of [`Role::ALL`]: client, coordinator, admin, auditor.
    const TABLE: [(&str, [char; 4]); 16] = [
        ("obtain_token", ['x', 'x', 'x', 'x']),
        ("read_tasks", ['x', 'x', 'x', 'x']),
        ("create_task", ['-', 'x', 'x', '-']),
        ("control_task", ['-', 'x', 'x', '-']),
        ("read_rounds", ['x', 'x', 'x', 'x']),
        ("take_part_in_round", ['x', '-', '-', '-']),
        ("read_model", ['x', 'x', 'x', '-']),
        ("write_model", ['-', 'x', 'x', '-']),
        ("read_release", ['x', 'x', 'x', 'x']),
        ("read_participants", ['-', 'x', 'x', 'x']),
        ("issue_join_token", ['-', '-', 'x', '-']),
        ("revoke_participant", ['-', '-', 'x', '-']),
        ("read_metrics", ['-', 'x', 'x', 'x']),
        ("read_budget", ['x', 'x', 'x', 'x']),
        ("read_ledger", ['-', 'x', 'x', 'x']),
        ("open_budget", ['-', '-', 'x', '-']),
    ];

    #[test]
    fn every_cell_is_as_committed() {
        for (permission, (name, row)) in Permission::ALL.into_iter().zip(TABLE) {
            assert_eq!(permission.as_str(), name);
            assert_eq!(serde_json::to_string(&permission).unwrap(), format!("\"{name}\""));
            for (role, cell) in Role::ALL.into_iter().zip(row) {
                assert_eq!(role.may(permission), cell == 'x', "{role} {permission}");
            }
        }
    }

    /// What a scope promises must hold for every role that gets it.
    #[test]
    fn scopes_never_promise_less_than_the_role_may_do() {
        let writes = [
            Permission::CreateTask,
            Permission::ControlTask,
            Permission::WriteModel,
            Permission::IssueJoinToken,
            Permission::RevokeParticipant,
            Permission::OpenBudget,
            Permission::TakePartInRound,
        ];
        for role in Role::ALL {
            match role.scope() {
                Scope::Readonly => assert!(writes.into_iter().all(|p| !role.may(p)), "{role}"),
                Scope::Train => assert!(role.may(Permission::TakePartInRound) && !role.may(Permission::CreateTask)),
                Scope::Admin => assert!(role.may(Permission::CreateTask) && !role.may(Permission::TakePartInRound)),
            }
            assert_eq!(serde_json::to_string(&role.scope()).unwrap(), format!("\"{}\"", role.scope()));
        }
    }
}

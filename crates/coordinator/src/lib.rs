//! The coordinator's service: one HTTPS port, a data folder, and the rounds that run over them.
//!
//! A shell: sockets, TLS, files and the clock are here, the rules are in the cores it calls. Split by noun, each with
//! its routes, its store access and its tests.
//!
//! | module | what |
//! |---|---|
//! | [`config`], [`init`], [`keyfile`] | `sordino.toml`, the folder that `init` makes, files that hold keys |
//! | [`tls`], [`server`] | TLS 1.3 only, the accept loop with its bounds, graceful stop |
//! | [`access`] | routes and who may call them; every route says what it takes |
//! | [`answer`], [`bulk`], [`idempotency`] | JSON and problems, chunks and files, repeated requests |
//! | [`enrolment`], [`tokens`], [`participants`], [`models`], [`tasks`], [`health`] | the resources |
//! | [`rounds`] | cohorts, attempts, Releases |
//! | [`budget`] | privacy budgets: charged before a round, settled after it |
//! | [`app`] | what the handlers share |
//!
//! # Threat model
//! Anyone may connect and send anything: connections are capped before the handshake, headers and bodies before they
//! are read, and no route but enrolment and the probes answers without a certificate of the federation. A participant
//! may do what its role permits and nothing else, and an answer about something that it may not see is the answer
//! about something that does not exist. Who can read the data folder learns no join secret and no input; who can read
//! the keys' files can act as this coordinator, which is why they are refused when others can read them.

pub mod access;
pub mod answer;
pub mod app;
pub mod budget;
pub mod bulk;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod health;
pub mod idempotency;
pub mod init;
pub mod keyfile;
pub mod lifecycle;
pub mod models;
pub mod participants;
pub mod rounds;
pub mod server;
pub mod tasks;
pub mod tls;
pub mod tokens;

pub use access::{Access, Caller, Routes};
pub use answer::ApiError;
pub use app::{App, StartError};
pub use config::{ConfigError, ServerConfig};
pub use server::{ServeError, Server};

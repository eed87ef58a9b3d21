//! A site's client: joins a federation, trains, takes part in rounds, and survives restarts of itself and of the
//! coordinator.
//!
//! | module | what |
//! |---|---|
//! | [`credentials`], [`join`](mod@join) | the site's folder: key, certificate, whom it trusts |
//! | [`client`] | HTTPS with its certificate and token; what may be retried is retried |
//! | [`run`] | the loop: check in, train, take part |
//! | `session` | one attempt, step by step, each state stored before its message is sent |
//! | `state` | that storage, sealed under the site's key |
//! | `releases` | checks what is released of the rounds that the site took part in |
//! | `budget` | what the site's records and its whole contribution have paid, and may pay |
//! | `dump` | encoded inputs, written down for demonstrations and tests |
//! | [`training`] | data sets, models, the built-in trainer and `--exec` |
//!
//! # Threat model
//! The coordinator is not trusted with anything but the sum: what it says is checked by
//! [`sordino_secagg::participant`] against this site's own trust anchors. The site's folder is: whoever reads it can act
//! as the site. An update never leaves the process unmasked, except to the `--exec` program's own scratch folder.

#![forbid(unsafe_code)]

pub mod attack;
mod budget;
pub mod client;
pub mod credentials;
mod dump;
pub mod join;
mod proving;
mod releases;
pub mod run;
mod session;
mod state;
pub mod training;

pub use budget::{SiteAccount, SiteStanding, reset_site_budget, site_history, site_standing};
pub use client::{Client, ClientError};
pub use credentials::{Credentials, CredentialsError};
pub use dump::DumpError;
pub use join::{JoinError, join};
pub use proving::ProvingError;
pub use releases::AcceptedRelease;
pub use run::{DevOptions, Summary, TrainError, TrainOptions, accept_release, train};

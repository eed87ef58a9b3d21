//! The service as a peer meets it: over real sockets, with `curl` and `openssl` as judges where they are the ones who
//! must be convinced.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod enrolment;
mod listener;
mod models;
mod tasks;
mod wire;

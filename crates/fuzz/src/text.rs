//! Names, policies and the API's JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sordino_identity::{CoordinatorUrl, FederationId, Principal, PrincipalId};
use sordino_secagg::ParticipantId;
use sordino_wire::{Digest, Policy, Problem, RoundId, TaskId, api};
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// What is read as a name is written as that name.
pub(crate) fn names(bytes: &[u8]) {
    fn one<T: FromStr + Display + PartialEq + Debug>(text: &str) {
        if let Ok(name) = text.parse::<T>() {
            let written = name.to_string();
            assert_eq!(written.parse::<T>().ok().as_ref(), Some(&name), "{written}");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    one::<PrincipalId>(text);
    one::<FederationId>(text);
    one::<Principal>(text);
    one::<TaskId>(text);
    one::<RoundId>(text);
    one::<Digest>(text);
    let _ = text.parse::<CoordinatorUrl>();
    let _ = Principal::parse_spiffe(text);
    if let Ok(id) = ParticipantId::new(text) {
        assert_eq!(id.as_str(), text);
    }
}

/// A policy that is accepted can be written down and is accepted again, as the same.
pub(crate) fn policy_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(policy) = Policy::from_toml(text) {
        checked(policy);
    }
}

pub(crate) fn policy_json(bytes: &[u8]) {
    if let Ok(policy) = serde_json::from_slice::<Policy>(bytes) {
        checked(policy);
    }
}

fn checked(policy: Policy) {
    let Ok(policy) = policy.check() else { return };
    let written = serde_json::to_vec(policy.policy()).expect("what was read can be written");
    let again: Policy = serde_json::from_slice(&written).expect("just written");
    assert_eq!(again.check().expect("accepted before").digest(), policy.digest());
    let terms = policy.terms(policy.policy().cohort.target);
    for model_len in [1, 1_000, 100_000_000] {
        if let Ok(encoding) = policy.encoding(model_len, &terms) {
            assert!(encoding.len() >= model_len);
        }
    }
}

/// Every body that a server or a site reads.
pub(crate) fn api_json(bytes: &[u8]) {
    fn one<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<T>(bytes) {
            let written = serde_json::to_vec(&value).expect("what was read can be written");
            let again: T = serde_json::from_slice(&written).expect("just written");
            assert_eq!(serde_json::to_vec(&again).expect("the same"), written);
        }
    }
    one::<api::EnrollRequest>(bytes);
    one::<api::EnrollAnswer>(bytes);
    one::<api::TokenAnswer>(bytes);
    one::<api::JoinTokenRequest>(bytes);
    one::<api::JoinTokenAnswer>(bytes);
    one::<api::TaskRequest>(bytes);
    one::<api::Page<api::Task>>(bytes);
    one::<api::Model>(bytes);
    one::<api::Round>(bytes);
    one::<api::CheckIn>(bytes);
    one::<api::Assignment>(bytes);
    one::<api::UploadStatus>(bytes);
    one::<api::Participant>(bytes);
    one::<Problem>(bytes);
}

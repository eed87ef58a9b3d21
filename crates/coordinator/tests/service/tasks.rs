//! Tasks and their policies.

use crate::common::{POLICY, TestFederation, code, model, problem};
use http::StatusCode;
use sordino_wire::{
    Code, Digest,
    api::{Page, Task, TaskRequest, TaskState},
};

#[tokio::test]
async fn a_task_is_what_was_asked_for() {
    let federation = TestFederation::start().await;
    let mut changed = federation.app.tasks_changed.subscribe();
    let model = federation.upload(&model(&[0.5; 7])).await;
    let task = federation.create_task(POLICY, model).await;
    assert_eq!((task.state, task.model, task.model_len, task.round), (TaskState::Active, model, 7, 1));
    assert_eq!(task.policy.task.name, "sepsis-mlp");
    assert_eq!(task.policy_digest, task.policy.clone().check().unwrap().digest());
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();

    let site = federation.participant("site-0001").await;
    let one: Task = site.get(&format!("/v1/tasks/{}", task.id)).send().await.unwrap().json().await.unwrap();
    assert_eq!(one, task);
    let other = federation.create_task(&POLICY.replace('3', "4"), model).await;
    let page: Page<Task> = site.get("/v1/tasks?limit=1").send().await.unwrap().json().await.unwrap();
    assert_eq!((page.items, page.next.as_deref()), (vec![task], Some(one.id.as_str())));
    let next = format!("/v1/tasks?limit=1&cursor={}", one.id);
    let page: Page<Task> = site.get(&next).send().await.unwrap().json().await.unwrap();
    assert_eq!((page.items, page.next), (vec![other], None));
    let missing = site.get("/v1/tasks/0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b").send().await.unwrap();
    assert_eq!(code(missing).await, Code::NotFound);
    assert_eq!(code(site.get("/v1/tasks/..").send().await.unwrap()).await, Code::NotFound);
}

#[tokio::test]
async fn a_policy_that_cannot_work_is_refused_in_one_sentence() {
    let federation = TestFederation::start().await;
    let model = federation.upload(&model(&[0.5; 7])).await;
    for (policy, named) in [
        (
            "[task]\nname = \"a\"\nrounds = 1\n[privacy]\namplification = \"poisson\"\n".to_owned(),
            "privacy.amplification",
        ),
        (format!("{POLICY}epsilonn = 3\n"), "epsilonn"),
        (format!("{POLICY}[cohort]\nmin = 2\n"), "cohort.min"),
        (POLICY.replace("rounds = 3", "rounds = 3\nvisibility = \"open\""), "task.visibility"),
    ] {
        let request = TaskRequest { policy, model };
        let refused = problem(federation.admin.post("/v1/tasks").json(&request).send().await.unwrap()).await;
        assert_eq!(refused.code, Code::PolicyRefused);
        assert!(refused.detail.contains(named), "{}", refused.detail);
    }
    let request = TaskRequest { policy: POLICY.into(), model: Digest::of(b"never uploaded") };
    let refused = problem(federation.admin.post("/v1/tasks").json(&request).send().await.unwrap()).await;
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.detail.contains("upload it first"), "{}", refused.detail);
    let page: Page<Task> = federation.admin.get("/v1/tasks").send().await.unwrap().json().await.unwrap();
    assert_eq!(page.items, []);
}

#[tokio::test]
async fn a_repeated_request_makes_one_task() {
    let federation = TestFederation::start().await;
    let model = federation.upload(&model(&[0.5; 7])).await;
    let send = async |policy: String, key: &str| {
        let request = TaskRequest { policy, model };
        federation.admin.post("/v1/tasks").header("idempotency-key", key).json(&request).send().await.unwrap()
    };
    let first = send(POLICY.into(), "make-sepsis").await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let second = send(POLICY.into(), "make-sepsis").await;
    assert_eq!(second.status(), StatusCode::CREATED);
    assert_eq!(first.bytes().await.unwrap(), second.bytes().await.unwrap());
    assert_eq!(code(send(POLICY.replace('3', "4"), "make-sepsis").await).await, Code::IdempotencyConflict);
    assert_eq!(code(send(POLICY.into(), "short").await).await, Code::Malformed);
    // What failed is not remembered: the key is free for the request that works.
    assert_eq!(
        code(send(POLICY.replace("enabled = false", "noise_multiplier = 0.0"), "make-other").await).await,
        Code::PolicyRefused
    );
    assert_eq!(send(POLICY.into(), "make-other").await.status(), StatusCode::CREATED);
    let page: Page<Task> = federation.admin.get("/v1/tasks").send().await.unwrap().json().await.unwrap();
    assert_eq!(page.items.len(), 2);
}

/// A delta above 1 over those who are enrolled is refused, and ends a task when others enrol that it has no room for.
#[tokio::test]
async fn delta_is_held_against_those_who_are_enrolled() {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let model = federation.upload(&model(&[0.5; 7])).await;
    let policy = |delta: f64, unit: &str| {
        format!(
            "[task]\nname = \"few\"\nrounds = 3\n[cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\n\
             max_corrupt_fraction = 0.0\n[privacy]\nunit = \"{unit}\"\ndelta = {delta:?}\n\
             data_version = \"{delta:?}\"\nnoise_multiplier = 5.0\n[timing]\ngather = 0.01\n"
        )
    };
    let mut sites = Vec::new();
    for id in ["site-0001", "site-0002", "site-0003", "site-0004"] {
        sites.push(federation.participant(id).await);
    }
    let task = federation.create_task(&policy(0.25, "participant"), model).await;
    federation.participant("site-0005").await;

    let request = TaskRequest { policy: policy(0.21, "participant"), model };
    let refused = problem(federation.admin.post("/v1/tasks").json(&request).send().await.unwrap()).await;
    assert_eq!(refused.code, Code::PolicyRefused);
    assert!(
        refused.detail.contains("privacy.delta is 2.1e-1, above 1 in 5 enrolled participants"),
        "{}",
        refused.detail
    );
    federation.create_task(&policy(0.2, "participant"), model).await;
    // How many records there are, sites know.
    federation.create_task(&policy(0.21, "record"), model).await;

    let path = format!("/v1/tasks/{}/checkin?wait=10", task.id);
    let check_ins = sites[..3].iter().map(|site| {
        let asked = site.post(&path).json(&serde_json::json!({})).send();
        tokio::spawn(async move { asked.await.unwrap().status() })
    });
    for check_in in check_ins.collect::<Vec<_>>() {
        assert_eq!(check_in.await.unwrap(), StatusCode::CONFLICT, "the task has ended");
    }
    let task: Task =
        federation.admin.get(&format!("/v1/tasks/{}", task.id)).send().await.unwrap().json().await.unwrap();
    assert_eq!((task.state, task.round), (TaskState::Halted, 1));
    assert!(task.reason.as_ref().unwrap().contains("above 1 in 5 enrolled participants"), "{:?}", task.reason);
    federation.stop();
    rounds.await.unwrap().unwrap();
}

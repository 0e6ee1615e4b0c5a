//! Statuses beside a server that answers when the test says so.

use super::*;
use boatyard_api::environment::EnvironmentSpec;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// What was asked, and where its answer goes.
struct Asked {
    method: http::Method,
    body: Value,
    answer: tokio::sync::oneshot::Sender<(u16, Value)>,
}

impl Asked {
    fn ok(self, object: impl serde::Serialize) {
        self.answer.send((200, json!(object))).unwrap();
    }

    fn refuse(self, code: u16, reason: &str) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "code": code, "reason": reason, "message": "so it is"});
        self.answer.send((code, status)).unwrap();
    }
}

fn server() -> (Client, mpsc::UnboundedReceiver<Asked>) {
    let (sender, asked) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let sender = sender.clone();
        async move {
            let method = request.method().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (answer, answered) = tokio::sync::oneshot::channel();
            let asked = Asked {
                method,
                body: serde_json::from_slice(&body).unwrap_or_default(),
                answer,
            };
            sender.send(asked).map_err(|_| ()).unwrap();
            let (code, body) = answered.await.unwrap();
            let body = Body::from(body.to_string().into_bytes());
            let answer = Response::builder().status(code).body(body);
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

fn status(message: &str, phase: Phase) -> EnvironmentStatus {
    EnvironmentStatus {
        phase,
        message: Some(message.to_owned()),
        ..EnvironmentStatus::default()
    }
}

#[tokio::test(start_paused = true)]
async fn few_statuses_are_written_at_once_and_what_waits_is_overtaken_by_what_is_newer() {
    const COUNT: usize = 3 * WRITES;
    let (client, mut asked) = server();
    let turns = Turns::of(None);
    let (mut statuses, mut used) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let mut object = Environment::new(&format!("e-{number}"), EnvironmentSpec::default());
        object.metadata.uid = Some(format!("uid-{number}"));
        object.metadata.namespace = Some("default".to_owned());
        let (status, newest) = watch::channel(EnvironmentStatus::default());
        let (resources, usage) = watch::channel(None);
        let writing = write_status(client.clone(), turns.clone(), object, newest, usage);
        tokio::spawn(writing);
        statuses.push(status);
        used.push(resources);
    }
    for name in ["first", "second", "third"] {
        for sender in &statuses {
            sender.send_replace(status(name, Phase::Running));
        }
        // Nothing else is ready to run once this has slept: time stands still until then.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut written = Vec::new();
    let mut open: Vec<Asked> = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Ok(one) = asked.try_recv() {
            open.push(one);
        }
        assert!(open.len() <= WRITES, "{} at once", open.len());
        if open.is_empty() {
            break;
        }
        let one = open.remove(0);
        if one.method == http::Method::PATCH {
            let (uid, message) = (&one.body["metadata"]["uid"], &one.body["status"]["message"]);
            written.push((uid.clone(), message.clone()));
            let object = Environment::new("e", EnvironmentSpec::default());
            one.ok(object);
        } else {
            one.ok(Event::default());
        }
    }
    for number in 0..COUNT {
        let uid = format!("uid-{number}");
        let of = written.iter().filter(|(of, _)| *of == uid);
        let messages: Vec<&str> = of.filter_map(|(_, message)| message.as_str()).collect();
        // The first ones were on their way when the newer came; the others were not.
        let expected: &[&str] = if number < WRITES {
            &["first", "third"]
        } else {
            &["third"]
        };
        assert_eq!(messages, expected, "{uid}");
    }
}

/// An environment whose status is written, and the server that is told.
struct Writing {
    status: Option<watch::Sender<EnvironmentStatus>>,
    used: watch::Sender<Option<ResourcesStatus>>,
    asked: mpsc::UnboundedReceiver<Asked>,
    ended: tokio::task::JoinHandle<()>,
}

fn environment() -> Environment {
    let mut object = Environment::new("e", EnvironmentSpec::default());
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.namespace = Some("default".to_owned());
    object
}

impl Writing {
    fn of(token: Option<Token>) -> Self {
        let (client, asked) = server();
        let (status, newest) = watch::channel(EnvironmentStatus::default());
        let (used, usage) = watch::channel(None);
        let turns = Turns::of(token);
        let writing = write_status(client, turns, environment(), newest, usage);
        Self {
            status: Some(status),
            used,
            asked,
            ended: tokio::spawn(writing),
        }
    }

    fn set(&self, message: &str, phase: Phase) {
        let sender = self.status.as_ref().unwrap();
        sender.send_replace(status(message, phase));
    }

    /// The next question, and after how long it came.
    async fn next(&mut self) -> (Asked, Duration) {
        let began = tokio::time::Instant::now();
        let asked = tokio::time::timeout(Duration::from_secs(60), self.asked.recv()).await;
        (asked.unwrap().unwrap(), began.elapsed())
    }

    /// The next status written, and after how long.
    async fn written(&mut self) -> (String, Duration) {
        let mut waited = Duration::ZERO;
        loop {
            let (asked, after) = self.next().await;
            waited += after;
            if asked.method == http::Method::PATCH {
                let message = asked.body["status"]["message"].as_str().unwrap().to_owned();
                asked.ok(environment());
                return (message, waited);
            }
            asked.ok(Event::default());
        }
    }

    /// Nothing is asked for so long.
    async fn silent(&mut self, long: Duration) -> bool {
        tokio::time::timeout(long, self.asked.recv()).await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_on_the_way_are_written_together_and_where_it_leads_at_once() {
    let mut writing = Writing::of(None);
    writing.set("fetching", Phase::Preparing);
    tokio::time::sleep(GATHER / 2).await;
    writing.set("starting", Phase::Starting);
    let (message, waited) = writing.written().await;
    assert_eq!(message, "starting");
    assert!(waited <= GATHER, "{waited:?}");
    writing.set("still starting", Phase::Starting);
    tokio::time::sleep(GATHER / 2).await;
    writing.set("ready", Phase::Running);
    let (message, waited) = writing.written().await;
    assert_eq!(message, "ready");
    assert_eq!(waited, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_used_goes_with_the_status_and_the_last_status_is_written() {
    let mut writing = Writing::of(None);
    let runs = EnvironmentStatus {
        address: Some("10.0.0.1".to_owned()),
        ..status("ready", Phase::Running)
    };
    writing.status.as_ref().unwrap().send_replace(runs);
    assert_eq!(writing.written().await.0, "ready");
    let used = ResourcesStatus {
        pids: Some(5),
        ..ResourcesStatus::default()
    };
    writing.used.send_replace(Some(used));
    let asked = loop {
        let (asked, _) = writing.next().await;
        if asked.method == http::Method::PATCH {
            break asked;
        }
        asked.ok(Event::default());
    };
    let resources = &asked.body["status"]["resources"];
    assert_eq!(*resources, json!({"pids": 5}), "{}", asked.body);
    asked.ok(environment());
    writing.set("going", Phase::Stopping);
    // Its worker has ended.
    writing.status = None;
    assert_eq!(
        writing.written().await,
        ("going".to_owned(), Duration::ZERO)
    );
    while let Some(asked) = writing.asked.recv().await {
        asked.ok(Event::default());
    }
    writing.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_status_is_tried_again_with_what_is_newest_until_the_environment_is_gone() {
    let mut writing = Writing::of(None);
    writing.set("ready", Phase::Running);
    let (asked, _) = writing.next().await;
    asked.refuse(503, "ServiceUnavailable");
    // Is it gone? It is not.
    let (asked, _) = writing.next().await;
    assert_eq!(asked.method, http::Method::GET);
    asked.ok(environment());
    writing.set("newer", Phase::Running);
    let (message, waited) = writing.written().await;
    assert_eq!(message, "newer");
    assert!(waited <= Duration::from_secs(1), "{waited:?}");

    writing.set("last", Phase::Stopped);
    let asked = loop {
        let (asked, _) = writing.next().await;
        if asked.method == http::Method::PATCH {
            break asked;
        }
        asked.ok(Event::default());
    };
    asked.refuse(409, "Conflict");
    // A namesake is not it.
    let mut namesake = environment();
    namesake.metadata.uid = Some("another".to_owned());
    writing.next().await.0.ok(namesake);
    writing.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_the_server_does_not_know_the_runner() {
    let token = Token::from("one");
    let mut writing = Writing::of(Some(token.clone()));
    token.answered(&token.now(), true);
    writing.set("ready", Phase::Running);
    assert!(writing.silent(Duration::from_secs(3600)).await);
    writing.set("newer", Phase::Running);
    token.replace("two");
    assert_eq!(writing.written().await.0, "newer");
}

#[test]
fn a_patch_says_null_of_what_was_there_and_is_not_any_more_at_any_depth() {
    let mut patch = json!({"a": {"b": 1}, "list": [1]});
    let before = json!({"a": {"b": 2, "c": {"d": 3}}, "list": [1, 2], "gone": {"x": 1}});
    clear_absent(&mut patch, &before);
    let expected = json!({"a": {"b": 1, "c": null}, "list": [1], "gone": null});
    assert_eq!(patch, expected);
}

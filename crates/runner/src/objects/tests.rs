//! Statuses beside a server that answers when the test says so.

use super::*;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// What was asked, and where its answer goes.
struct Asked {
    method: http::Method,
    body: Value,
    answer: tokio::sync::oneshot::Sender<Value>,
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
            let text = answered.await.unwrap().to_string();
            Ok::<_, Infallible>(Response::new(Body::from(text.into_bytes())))
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
            one.answer.send(json!(object)).unwrap();
        } else {
            one.answer.send(json!(Event::default())).unwrap();
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

//! The clients: random calls and watches through one address, recorded.

use boatyard_link::client::{Address, Endpoint};
use boatyard_testkit::Front;
use boatyard_testkit::history::{Asked, Call, History, Seen, Told, Watched, Word};
use futures::TryStreamExt;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PATH: &str = "/apis/boatyard.dev/v1/environmentclasses";
/// Longest anything may take on a busy machine, restarts included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that call, and what each asks for.
const CLIENTS: usize = 8;
const CALLS: usize = 250;
const WATCHERS: usize = 4;
const OBJECTS: usize = 8;
/// Written last: the watchers' end.
const END: &str = "boat-end";

/// Repeatable random numbers (a linear congruence, as in Knuth's MMIX).
pub(crate) struct Randomness(u64);

impl Randomness {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// The one given, or another at each run.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("BOATYARD_SEED").ok();
    given.map_or_else(
        || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::from(since.unwrap().subsec_nanos())
        },
        |seed| seed.parse().unwrap(),
    )
}

/// The clients of one run.
pub(crate) struct Mix {
    endpoint: Endpoint,
    front: std::net::SocketAddr,
    seed: u64,
    began: Instant,
    /// Revision that the watchers start after.
    from: u64,
    answers: watch::Sender<u64>,
    calls: Mutex<Vec<Call>>,
}

impl Mix {
    pub(crate) async fn new(front: &Front, token: String, authority: &str, seed: u64) -> Self {
        let mut mix = Self {
            endpoint: Endpoint {
                address: Address::Tls {
                    authority: front.address().to_string(),
                    config: boatyard_link::tls::client_config(authority).unwrap(),
                },
                token: Some(token),
            },
            front: front.address(),
            seed,
            began: Instant::now(),
            from: 0,
            answers: watch::Sender::new(0),
            calls: Mutex::default(),
        };
        let (_, list) = mix
            .send(&mix.endpoint.kube(), "GET", PATH, None)
            .await
            .unwrap();
        mix.from = revision(&list);
        mix
    }

    /// Waits for so many answers; false when the clients end before.
    pub(crate) async fn answered(&self, count: u64) -> bool {
        let mut answers = self.answers.subscribe();
        let reached = *answers.wait_for(|so_far| *so_far >= count).await.unwrap();
        reached != u64::MAX
    }

    /// Runs clients and watchers to their end.
    pub(crate) async fn run(&self) -> History {
        let clients = async {
            futures::future::join_all((0..CLIENTS).map(|number| self.client(number))).await;
            self.end().await;
            self.answers.send_replace(u64::MAX);
        };
        let watchers = futures::future::join_all((0..WATCHERS).map(|_| self.watcher()));
        let ((), watchers) = tokio::join!(clients, watchers);
        History {
            calls: std::mem::take(&mut *self.calls.lock().unwrap()),
            watchers: watchers.into_iter().flatten().collect(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    async fn client(&self, number: usize) {
        let client = self.endpoint.kube();
        let mut dice = Randomness::new(self.seed.wrapping_add(number as u64));
        // What it last knew of each object.
        let mut known = [1_u64; OBJECTS];
        for count in 0..CALLS {
            let at = dice.below(OBJECTS);
            let key = format!("boat-{at}");
            let value = format!("{number}-{count}");
            // Mostly of what is there now, sometimes of what was.
            if dice.below(4) > 0
                && let Told::Read(revision, _) = self.call(&client, &key, Asked::Get).await
            {
                known[at] = revision;
            }
            let asked = match dice.below(10) {
                0 | 1 => Asked::Create { value },
                2..=6 => Asked::Update {
                    expected: known[at],
                    value,
                },
                7 => Asked::Delete,
                8 => Asked::Get,
                _ => Asked::List,
            };
            let told = self.call(&client, &key, asked).await;
            match told {
                Told::Written(revision) | Told::Read(revision, _) => known[at] = revision,
                Told::Nothing => self.front_answers().await,
                _ => {}
            }
        }
    }

    /// Writes the last object, however often it takes.
    async fn end(&self) {
        let client = self.endpoint.kube();
        for attempt in 0.. {
            let value = format!("end-{attempt}");
            let told = self.call(&client, END, Asked::Create { value }).await;
            if told != Told::Nothing {
                return;
            }
            self.front_answers().await;
        }
    }

    /// Until a server answers again.
    async fn front_answers(&self) {
        let client = self.endpoint.kube();
        let deadline = Instant::now() + PATIENCE;
        while self.send(&client, "GET", "/readyz", None).await.is_none() {
            assert!(Instant::now() < deadline, "no server at {}", self.front);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One call, recorded.
    async fn call(&self, client: &kube::Client, key: &str, asked: Asked) -> Told {
        let one = format!("{PATH}/{key}");
        let object = |value: &str, version: Option<u64>| {
            let mut object = json!({"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
                "metadata": {"name": key}, "spec": {"description": value}});
            if let Some(version) = version {
                object["metadata"]["resourceVersion"] = json!(version.to_string());
            }
            Some(object)
        };
        let (method, path, body) = match &asked {
            Asked::Create { value } => ("POST", PATH, object(value, None)),
            Asked::Update { expected, value } => ("PUT", &*one, object(value, Some(*expected))),
            Asked::Delete => ("DELETE", &*one, None),
            Asked::Get => ("GET", &*one, None),
            Asked::List => ("GET", PATH, None),
        };
        let began = self.now();
        let answer = self.send(client, method, path, body).await;
        let ended = self.now();
        let told = answer.map_or(Told::Nothing, |(code, answer)| told(&asked, code, &answer));
        self.calls.lock().unwrap().push(Call {
            key: if asked == Asked::List {
                String::new()
            } else {
                key.to_owned()
            },
            asked,
            began,
            ended,
            told: told.clone(),
        });
        if told != Told::Nothing {
            self.answers.send_modify(|answers| *answers += 1);
        }
        told
    }

    /// Code and body of an answer; none when there was no whole one.
    async fn send(
        &self,
        client: &kube::Client,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, Value)> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(kube::client::Body::from(body.into_bytes()))
            .unwrap();
        let exchange = async {
            let response = client.send(request).await.ok()?;
            let code = response.status().as_u16();
            let body = response.into_body().collect_bytes().await.ok()?;
            Some((code, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.ok()??;
        // It may have happened or not.
        (answer.0 < 500 && answer.0 != 429).then_some(answer)
    }

    /// Follows to the end object; what it saw, in pieces where it had to list again.
    async fn watcher(&self) -> Vec<Watched> {
        let client = self.endpoint.kube();
        let mut watched = Watched {
            from: self.from,
            to: self.from,
            seen: Vec::new(),
        };
        loop {
            let path = format!(
                "{PATH}?watch=true&allowWatchBookmarks=true&resourceVersion={}",
                watched.to
            );
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            let opened = client
                .request_events::<kube::core::DynamicObject>(request)
                .await;
            if let Ok(events) = opened {
                let mut events = std::pin::pin!(events);
                while let Ok(Some(event)) = events.try_next().await {
                    let (word, object) = match event {
                        WatchEvent::Added(object) => (Word::Added, object),
                        WatchEvent::Modified(object) => (Word::Modified, object),
                        WatchEvent::Deleted(object) => (Word::Deleted, object),
                        WatchEvent::Bookmark(mark) => {
                            watched.to = mark.metadata.resource_version.parse().unwrap();
                            continue;
                        }
                        WatchEvent::Error(status) => panic!("a watch was cut: {status:?}"),
                    };
                    let version = object.metadata.resource_version.clone().unwrap();
                    watched.to = version.parse().unwrap();
                    watched.seen.push(Seen {
                        revision: watched.to,
                        word,
                        key: object.metadata.name.clone().unwrap(),
                        value: object.data["spec"]["description"]
                            .as_str()
                            .unwrap()
                            .to_owned(),
                    });
                    if watched.seen.last().unwrap().key == END {
                        return vec![watched];
                    }
                }
            }
            self.front_answers().await;
        }
    }
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.unwrap().parse().unwrap()
}

fn told(asked: &Asked, code: u16, answer: &Value) -> Told {
    let value = |object: &Value| object["spec"]["description"].as_str().unwrap().to_owned();
    match (code, asked, answer["reason"].as_str()) {
        (200 | 201, Asked::Create { .. } | Asked::Update { .. }, _) => {
            Told::Written(revision(answer))
        }
        (200, Asked::Delete, _) => Told::Deleted,
        (200, Asked::Get, _) => Told::Read(revision(answer), value(answer)),
        (200, Asked::List, _) => {
            let items = answer["items"].as_array().unwrap().iter();
            let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
            let items = items.filter(|item| name(item).starts_with("boat-"));
            let items = items.map(|item| (name(item), revision(item), value(item)));
            Told::Listed(revision(answer), items.collect())
        }
        (404, _, _) => Told::NotFound,
        (409, _, Some("AlreadyExists")) => Told::Exists,
        (409, _, Some("Conflict")) => Told::Conflict,
        _ => panic!("{asked:?} was answered {code}: {answer}"),
    }
}

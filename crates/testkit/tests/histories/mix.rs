//! The clients: random calls and watches through one address, recorded.

use boatyard_testkit::Client;
use boatyard_testkit::client::PATIENCE;
use boatyard_testkit::history::{Asked, Call, History, Seen, Told, Watched, Word};
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Instant;
use tokio::sync::{RwLock, watch};

const PATH: &str = "/apis/boatyard.dev/v1/environmentclasses";
/// Clients that call, and what each asks for.
const CLIENTS: usize = 8;
const CALLS: usize = 250;
pub(crate) const WATCHERS: usize = 4;
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
    client: Client,
    seed: u64,
    began: Instant,
    /// Revision that the watchers start after.
    from: u64,
    answers: watch::Sender<u64>,
    /// Lists of watchers that were cut.
    lists: watch::Sender<usize>,
    /// Read by who deletes: what goes while nobody watches leaves no trace to judge by.
    deleting: RwLock<()>,
    calls: Mutex<Vec<Call>>,
}

impl Mix {
    pub(crate) async fn new(client: Client, seed: u64) -> Self {
        let from = revision(&client.get(PATH).await);
        Self {
            client,
            seed,
            began: Instant::now(),
            from,
            answers: watch::Sender::new(0),
            lists: watch::Sender::new(0),
            deleting: RwLock::new(()),
            calls: Mutex::default(),
        }
    }

    /// Waits for so many answers; false when the clients end before.
    pub(crate) async fn answered(&self, count: u64) -> bool {
        let mut answers = self.answers.subscribe();
        let reached = *answers.wait_for(|so_far| *so_far >= count).await.unwrap();
        reached != u64::MAX
    }

    /// How often watchers listed anew.
    pub(crate) fn lists(&self) -> usize {
        *self.lists.borrow()
    }

    /// Does something that cuts every watcher; meanwhile, until each has listed anew, nothing is
    /// deleted.
    pub(crate) async fn cutting(&self, disturb: impl FnOnce()) {
        let _nothing_goes = self.deleting.write().await;
        disturb();
        let mut lists = self.lists.subscribe();
        let all = lists.wait_for(|so_far| *so_far == WATCHERS);
        let waited = tokio::time::timeout(PATIENCE, all).await;
        waited.expect("every watcher lists anew").unwrap();
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
        let client = self.client.apart();
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
            let allowed = self.deleting.try_read();
            let asked = match asked {
                Asked::Delete if allowed.is_err() => Asked::Get,
                asked => asked,
            };
            // Others do not hold anybody up.
            let allowed = allowed.ok().filter(|_| asked == Asked::Delete);
            let told = self.call(&client, &key, asked).await;
            drop(allowed);
            match told {
                Told::Written(revision) | Told::Read(revision, _) => known[at] = revision,
                Told::Nothing => client.ready().await,
                _ => {}
            }
        }
    }

    /// Writes the last object, however often it takes.
    async fn end(&self) {
        let client = self.client.apart();
        for attempt in 0.. {
            let value = format!("end-{attempt}");
            let told = self.call(&client, END, Asked::Create { value }).await;
            if told != Told::Nothing {
                return;
            }
            client.ready().await;
        }
    }

    /// One call, recorded.
    async fn call(&self, client: &Client, key: &str, asked: Asked) -> Told {
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
        let answer = client.send(method, path, body).await;
        // It may have happened or not.
        let answer = answer.filter(|(code, _)| *code < 500 && *code != 429);
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

    /// Follows to the end object; what it saw, in pieces where it had to list again.
    async fn watcher(&self) -> Vec<Watched> {
        let client = self.client.apart();
        let follows = |from| Watched {
            from,
            to: from,
            seen: Vec::new(),
        };
        let mut pieces = vec![follows(self.from)];
        loop {
            let watched = pieces.last_mut().unwrap();
            match self.follow(&client, watched).await {
                Followed::ToTheEnd => return pieces,
                Followed::Broken => client.ready().await,
                Followed::Cut => {
                    let listed = self.call(&client, "", Asked::List).await;
                    let Told::Listed(at, items) = listed else {
                        client.ready().await;
                        continue;
                    };
                    self.lists.send_modify(|lists| *lists += 1);
                    pieces.push(follows(at));
                    if items.iter().any(|(key, ..)| key == END) {
                        return pieces;
                    }
                }
            }
        }
    }

    /// Goes on from where a watcher is.
    async fn follow(&self, client: &Client, watched: &mut Watched) -> Followed {
        let path = format!(
            "{PATH}?watch=true&allowWatchBookmarks=true&resourceVersion={}",
            watched.to
        );
        let Some(mut events) = client.watch(&path).await else {
            return Followed::Broken;
        };
        while let Some(event) = events.next().await {
            let (word, object) = match event {
                WatchEvent::Added(object) => (Word::Added, object),
                WatchEvent::Modified(object) => (Word::Modified, object),
                WatchEvent::Deleted(object) => (Word::Deleted, object),
                WatchEvent::Bookmark(mark) => {
                    watched.to = mark.metadata.resource_version.parse().unwrap();
                    continue;
                }
                WatchEvent::Error(status) => {
                    assert_eq!(status.code, 410, "{status:?}");
                    return Followed::Cut;
                }
            };
            let version = object.metadata.resource_version.clone().unwrap();
            watched.to = version.parse().unwrap();
            let value = object.data["spec"]["description"].as_str().unwrap();
            let key = object.metadata.name.clone().unwrap();
            let ends = key == END;
            watched.seen.push(Seen {
                revision: watched.to,
                word,
                key,
                value: value.to_owned(),
            });
            if ends {
                return Followed::ToTheEnd;
            }
        }
        Followed::Broken
    }
}

/// How far a watcher came.
enum Followed {
    ToTheEnd,
    /// It may go on from where it was.
    Broken,
    /// It may not.
    Cut,
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

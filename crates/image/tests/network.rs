//! Registries that hang, refuse, break off and lie.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boatyard_image::{Error, Image, Images, Reference};
use support::lying::{Answer, Asked, Server};
use support::{Noted, Tar, assert_nothing_left, gzip, images, impatient, options, quiet, sha256};

/// An image of one layer, large enough to be resumed.
struct Served {
    blob: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Served {
    fn new() -> Served {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..4 << 20)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let layer = Tar::new().file("noise", &noise).end();
        let config = support::config(&[sha256(&layer)], "amd64");
        let blob = gzip(&layer);
        let manifest = support::manifest(&config, std::slice::from_ref(&blob));
        Served {
            blob,
            config,
            manifest,
        }
    }

    fn honest(&self, asked: &Asked) -> Answer {
        if asked.path.contains("/manifests/") {
            Answer::Bytes(self.manifest.clone())
        } else if asked.path.ends_with(&sha256(&self.config)) {
            Answer::Bytes(self.config.clone())
        } else if let Some(from) = asked.range {
            Answer::Range(self.blob.clone(), from)
        } else {
            Answer::Bytes(self.blob.clone())
        }
    }

    fn is_blob(&self, asked: &Asked) -> bool {
        asked.path.ends_with(&sha256(&self.blob))
    }
}

async fn pull(images: &Images, server: &Server) -> Result<Image, Error> {
    let reference = Reference::parse(&server.name("app:1")).unwrap();
    let deadline = Duration::from_secs(300);
    tokio::time::timeout(deadline, images.ensure(&reference, quiet()))
        .await
        .expect("every call has a deadline")
}

/// The error of a pull that leaves nothing.
async fn failure(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    failure_of(options(), script).await
}

async fn failure_of(
    options: boatyard_image::Options,
    script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> String {
    let server = Server::start(script);
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path(), options);
    let error = pull(&images, &server).await.unwrap_err().to_string();
    assert!(
        error.contains(&server.name("app:1")),
        "names the image: {error}"
    );
    assert_nothing_left(folder.path());
    error
}

fn status(code: u16, body: &str) -> Answer {
    Answer::Full(code, Vec::new(), body.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_answers_becomes_one_sentence_with_a_remedy() {
    let cases: [(u16, &[&str]); 5] = [
        (401, &["401", "docker login", "check the name"]),
        (403, &["403", "docker login"]),
        (404, &["nothing of that name", "check the name and the tag"]),
        (429, &["429", "wait"]),
        (500, &["500", "is broken", "try again later"]),
    ];
    for (code, words) in cases {
        let body = r#"{"errors":[{"code":"X","message":"in its own words"}]}"#;
        let error = failure(move |_| status(code, body)).await;
        for word in words.iter().chain(&["in its own words"]) {
            assert!(error.contains(word), "{word:?} in {error}");
        }
    }
    let error = failure(|_| Answer::Bytes(b"<html>welcome to the hotel".to_vec())).await;
    assert!(error.contains("manifest cannot be understood"), "{error}");
    let error = failure(|_| Answer::Bytes(vec![b' '; 5 << 20])).await;
    assert!(error.contains("more than"), "{error}");
    let error = failure(|_| Answer::Bytes(br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec())).await;
    assert!(error.contains("schema 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_or_is_not_there_is_given_up() {
    let error = failure_of(impatient(), |_| Answer::Stall(vec![b' '; 100], 10)).await;
    assert!(error.contains("sent nothing for 1 s"), "{error}");
    let served = Arc::new(Served::new());
    let hanging = Arc::clone(&served);
    let error = failure_of(impatient(), move |asked| match hanging.is_blob(asked) {
        true => Answer::Stall(hanging.blob.clone(), 10),
        false => hanging.honest(asked),
    })
    .await;
    assert!(error.contains("in the middle of a layer"), "{error}");

    // Accepts and says nothing at all.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path(), impatient());
    let reference = Reference::parse(&format!("127.0.0.1:{port}/app:1")).unwrap();
    let error = images
        .ensure(&reference, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not answer within 1 s"), "{error}");
    drop(listener);
    let error = images
        .ensure(&reference, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot be reached") && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_that_lie_are_refused_and_nothing_of_them_stays() {
    let served = Arc::new(Served::new());
    let other = Arc::new(Served {
        blob: gzip(&Tar::new().file("evil", b"x").end()),
        ..Served::new()
    });
    // Another blob of the same length.
    let lying = Arc::clone(&served);
    let error = failure(move |asked| match lying.is_blob(asked) {
        true => {
            let mut blob = other.blob.clone();
            blob.resize(lying.blob.len(), 0);
            Answer::Bytes(blob)
        }
        false => lying.honest(asked),
    })
    .await;
    assert!(
        error.contains("digest") && error.contains(&sha256(&served.blob)),
        "{error}"
    );
    // One byte in the middle.
    let lying = Arc::clone(&served);
    let error = failure(move |asked| match lying.is_blob(asked) {
        true => {
            let mut blob = lying.blob.clone();
            blob[2 << 20] ^= 1;
            Answer::Bytes(blob)
        }
        false => lying.honest(asked),
    })
    .await;
    assert!(error.contains(&sha256(&served.blob)), "{error}");
    let lying = Arc::clone(&served);
    let error = failure(move |asked| match asked.path.contains("/manifests/") {
        true => {
            let digest = ("docker-content-digest", sha256(b"something else"));
            Answer::Full(200, vec![digest], lying.manifest.clone())
        }
        false => lying.honest(asked),
    })
    .await;
    assert!(
        error.contains("its manifest") && error.contains(&sha256(b"something else")),
        "{error}"
    );
    // The blob is what the manifest says, but the config promises another tar.
    let config = support::config(&[sha256(b"another layer")], "amd64");
    let manifest = support::manifest(&config, std::slice::from_ref(&served.blob));
    let lying = Served {
        blob: served.blob.clone(),
        config,
        manifest,
    };
    let error = failure(move |asked| lying.honest(asked)).await;
    assert!(
        error.contains("uncompressed") && error.contains(&sha256(b"another layer")),
        "{error}"
    );
    // More bytes than the manifest says.
    let lying = Arc::clone(&served);
    let error = failure(move |asked| match lying.is_blob(asked) {
        true => Answer::Bytes([lying.blob.as_slice(), &[0; 4096]].concat()),
        false => lying.honest(asked),
    })
    .await;
    assert!(error.contains("more than"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_other_machines_is_refused_with_what_there_is() {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"digest": sha256(b"a"), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": sha256(b"b"), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}},
        {"digest": sha256(b"c"), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]});
    let index = index.to_string().into_bytes();
    let error = failure(move |_| Answer::Bytes(index.clone())).await;
    assert!(
        error.contains("nothing for linux/amd64, only linux/s390x, windows/amd64"),
        "{error}"
    );
    let served = Served::new();
    let config = support::config(&[sha256(b"x")], "riscv64");
    let manifest = support::manifest(&config, std::slice::from_ref(&served.blob));
    let served = Served {
        config,
        manifest,
        ..served
    };
    let error = failure(move |asked| served.honest(asked)).await;
    assert!(error.contains("only linux/riscv64"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_part_of_an_index_is_pulled() {
    let served = Arc::new(Served::new());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"digest": sha256(b"a"), "size": 1, "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": sha256(&served.manifest), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
    ]});
    let index = index.to_string().into_bytes();
    let server = Server::start(move |asked| match asked.path.ends_with("/manifests/1") {
        true => Answer::Bytes(index.clone()),
        false => served.honest(asked),
    });
    let folder = tempfile::tempdir().unwrap();
    pull(&images(folder.path(), options()), &server)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let served = Arc::new(Served::new());
    let (script, count) = (Arc::clone(&served), AtomicUsize::new(0));
    let server = Server::start(move |asked| {
        let first = script.is_blob(asked) && count.fetch_add(1, Ordering::Relaxed) == 0;
        if first {
            Answer::Cut(script.blob.clone(), 2 << 20)
        } else {
            script.honest(asked)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    pull(&images(folder.path(), options()), &server)
        .await
        .unwrap();
    let asked = server.asked.lock().unwrap();
    let ranges: Vec<_> = asked
        .iter()
        .filter(|asked| served.is_blob(asked))
        .map(|asked| asked.range)
        .collect();
    assert_eq!(ranges.len(), 2);
    assert!(
        ranges[0].is_none() && ranges[1].is_some_and(|from| from > 0 && from <= 2 << 20),
        "{ranges:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_goes_on_from_what_a_failed_one_left_and_throws_away_what_was_wrong() {
    let served = Arc::new(Served::new());
    let (script, broken) = (Arc::clone(&served), Arc::new(AtomicUsize::new(1)));
    let state = Arc::clone(&broken);
    let server =
        Server::start(
            move |asked| match (script.is_blob(asked), state.load(Ordering::Relaxed)) {
                (true, 1) if asked.range.is_some() => status(503, ""),
                (true, 1) => Answer::Cut(script.blob.clone(), 3 << 20),
                // A server that knows no ranges.
                (true, 2) => Answer::Bytes(script.blob.clone()),
                _ => script.honest(asked),
            },
        );
    let folder = tempfile::tempdir().unwrap();
    let store = images(folder.path(), options());
    let error = pull(&store, &server).await.unwrap_err().to_string();
    assert!(error.contains("503"), "{error}");
    assert_nothing_left(folder.path());
    let partial = folder
        .path()
        .join("partial")
        .join(&sha256(&served.blob)[7..]);
    let kept = partial.metadata().unwrap().len();
    assert!(kept > 0 && kept <= 3 << 20);

    broken.store(2, Ordering::Relaxed);
    let noted = Arc::new(Noted::default());
    let reference = Reference::parse(&server.name("app:1")).unwrap();
    store.ensure(&reference, noted.clone()).await.unwrap();
    assert!(!partial.exists());
    assert!(
        noted
            .messages
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("going on after"))
    );

    // Bytes of the wrong blob under its name cost a second fetch, no more.
    let folder = tempfile::tempdir().unwrap();
    let store = images(folder.path(), options());
    let partial = folder
        .path()
        .join("partial")
        .join(&sha256(&served.blob)[7..]);
    std::fs::write(&partial, vec![9; 1 << 20]).unwrap();
    broken.store(0, Ordering::Relaxed);
    pull(&store, &server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_where_the_registry_says_with_the_credentials_for_it() {
    let served = Arc::new(Served::new());
    let script = Arc::clone(&served);
    let port = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&port);
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/token") {
            let basic = asked.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=");
            let refreshed = asked.method == "POST" && asked.body.contains("refresh_token=a%2Bb");
            let scoped =
                format!("{}{}", asked.path, asked.body).contains("scope=repository%3Aapp%3Apull");
            return match (basic || refreshed) && scoped {
                true => Answer::Bytes(br#"{"token":"T"}"#.to_vec()),
                false => status(401, ""),
            };
        }
        if asked.authorization.as_deref() == Some("Bearer T") {
            return script.honest(asked);
        }
        let realm = format!("http://127.0.0.1:{}/token", own.load(Ordering::Relaxed));
        let challenge =
            format!(r#"Bearer realm="{realm}",service="a, b",scope="repository:app:pull""#);
        Answer::Full(401, vec![("www-authenticate", challenge)], Vec::new())
    });
    port.store(server.port.into(), Ordering::Relaxed);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let auths = [
        r#"{"auth":"dXNlcjpzZWNyZXQ="}"#,
        r#"{"auth":"","identitytoken":"a+b"}"#,
    ];
    for (number, auth) in auths.iter().enumerate() {
        std::fs::write(
            &config,
            format!(r#"{{"auths":{{"127.0.0.1:{}":{auth}}}}}"#, server.port),
        )
        .unwrap();
        let options = boatyard_image::Options {
            docker_config: Some(config.clone()),
            ..options()
        };
        pull(
            &images(&folder.path().join(number.to_string()), options),
            &server,
        )
        .await
        .unwrap();
    }
    let asked = server.asked.lock().unwrap();
    // Once per pull, not once per request.
    assert_eq!(
        asked
            .iter()
            .filter(|asked| asked.path.starts_with("/token"))
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_killed_at_any_moment_leaves_what_the_next_one_finishes() {
    let served = Arc::new(Served::new());
    let script = Arc::clone(&served);
    let server = Server::start(move |asked| script.honest(asked));
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    let mut pause = Duration::ZERO;
    // Later each time, until one lives to its end; a machine that stalls does not end it early.
    for step in 0.. {
        let mut child = child(folder.path(), &server.name("app:1"));
        let deadline = Instant::now() + pause;
        pause += (pause / 16).max(Duration::from_millis(4));
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
            std::thread::yield_now();
        };
        if let Some(status) = ended {
            assert!(status.success());
            if killed > 3 {
                break;
            }
            pause = Duration::ZERO;
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        let store = images(folder.path(), options());
        for name in ["staging", "holds"] {
            assert_eq!(
                std::fs::read_dir(folder.path().join(name)).unwrap().count(),
                0,
                "{name} is clean"
            );
        }
        if let Some(image) = store
            .find(&Reference::parse(&server.name("app:1")).unwrap())
            .unwrap()
        {
            assert_eq!(
                image.layers[0]
                    .directory
                    .join("noise")
                    .metadata()
                    .unwrap()
                    .len(),
                4 << 20
            );
            store.remove(&image.reference).unwrap();
        }
        // Half of the time from nothing, so that unpacking is hit as well.
        if step % 2 == 0 {
            store.prune(&[]).unwrap();
        }
    }
    let image = pull(&images(folder.path(), options()), &server)
        .await
        .unwrap();
    assert_eq!(
        image.layers[0]
            .directory
            .join("noise")
            .metadata()
            .unwrap()
            .len(),
        4 << 20
    );
}

#[test]
fn a_full_disk_is_named_and_nothing_half_made_stays() {
    let served = Arc::new(Served::new());
    let script = Arc::clone(&served);
    let server = Server::start(move |asked| script.honest(asked));
    let folder = tempfile::tempdir().unwrap();
    // Room for the blob and not for the layer; for neither.
    for size in ["6m", "2m"] {
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs {place} && ! \"$0\" --exact child_pulls --ignored --nocapture \
             && find {place} -type f -path '*staging*' && cat {place}/refs/* 2>/dev/null; true",
            place = folder.path().display()
        );
        let output = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env("BOATYARD_TEST_STORE", folder.path())
            .env("BOATYARD_TEST_IMAGE", server.name("app:1"))
            .env("BOATYARD_TEST_RESERVE", "0")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            words.contains("no room on the disk") && words.contains("image prune"),
            "{words}"
        );
        let left = String::from_utf8_lossy(&output.stdout);
        assert!(
            !left.contains("staging") && !left.contains("manifest"),
            "{left}"
        );
    }
}

fn child(store: &Path, image: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_pulls", "--ignored"])
        .env("BOATYARD_TEST_STORE", store)
        .env("BOATYARD_TEST_IMAGE", image)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn child_pulls() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let mut options = options();
    if let Ok(reserve) = std::env::var("BOATYARD_TEST_RESERVE") {
        options.limits.reserve_bytes = reserve.parse().unwrap();
    }
    let images = images(Path::new(&variable("BOATYARD_TEST_STORE")), options);
    let reference = Reference::parse(&variable("BOATYARD_TEST_IMAGE")).unwrap();
    let outcome = images.ensure(&reference, quiet()).await;
    if let Err(error) = outcome {
        panic!("{error} {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_leaves_nothing_half_made() {
    let served = Arc::new(Served::new());
    let script = Arc::clone(&served);
    let server = Server::start(move |asked| match script.is_blob(asked) {
        true => Answer::Stall(script.blob.clone(), 2 << 20),
        false => script.honest(asked),
    });
    let folder = tempfile::tempdir().unwrap();
    let store = images(folder.path(), options());
    let reference = Reference::parse(&server.name("app:1")).unwrap();
    let partial = folder
        .path()
        .join("partial")
        .join(&sha256(&served.blob)[7..]);
    let pulling = {
        let store = store.clone();
        tokio::spawn(async move { store.ensure(&reference, quiet()).await })
    };
    wait(|| partial.metadata().is_ok_and(|metadata| metadata.len() > 0)).await;
    pulling.abort();
    let empty = |name: &str| std::fs::read_dir(folder.path().join(name)).unwrap().count() == 0;
    wait(|| empty("staging") && empty("holds")).await;
    assert!(empty("layers"));
}

async fn wait(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

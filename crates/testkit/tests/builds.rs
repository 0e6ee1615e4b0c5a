//! Build steps that run processes, each in a real sandbox of its own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_devcontainer::build::{
    Base, BuildPlan, ImageState, InlineFile, Op, Origin, Run, RunMount, RunMountKind, RunNetwork,
    Sharing, Stage, Step,
};
use boatyard_image::build::{Context, Outcome, Request};
use boatyard_image::{Format, Image, Images, Quiet, Reference};
use boatyard_testkit::wait;
use boatyard_testkit::yard::Noted;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Requests to a builder, and what they come to.
struct Yard(boatyard_testkit::yard::Yard);

impl std::ops::Deref for Yard {
    type Target = boatyard_testkit::yard::Yard;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Yard {
    async fn new() -> Yard {
        Yard(boatyard_testkit::yard::Yard::new(&serde_json::json!({})).await)
    }

    fn context(&self) -> PathBuf {
        let path = self.folder.path().join("context");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn request(&self, runs: Vec<Run>) -> Request {
        let step = |run: Run| Step {
            text: format!("RUN {}", run.argv.last().unwrap()),
            location: None,
            op: Op::Run(run),
        };
        Request {
            plan: BuildPlan {
                stages: vec![Stage {
                    name: "0".to_owned(),
                    base: Base::Image("base:1".to_owned()),
                    steps: runs.into_iter().map(step).collect(),
                    state: ImageState::default(),
                }],
            },
            names: vec![Reference::parse("built:1").unwrap()],
            contexts: BTreeMap::from([(String::new(), Context::folder(&self.context()).unwrap())]),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
        }
    }

    async fn build(&self, request: Request) -> (Result<Image, boatyard_image::Error>, Arc<Noted>) {
        let noted = Arc::new(Noted::default());
        let built = self.builder.build(request, noted.clone()).await;
        (built, noted)
    }

    async fn run(&self, run: Run) -> (Image, String) {
        let (built, noted) = self.build(self.request(vec![run])).await;
        let text = noted.text();
        (
            built.unwrap_or_else(|error| panic!("{error}\n{text}")),
            text,
        )
    }

    fn leftovers(&self) -> Vec<String> {
        let ids = self.sandboxes.list_leftovers().unwrap();
        ids.into_iter().map(String::from).collect()
    }
}

fn sh(script: &str) -> Run {
    Run {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: "/".to_owned(),
        network: RunNetwork::None,
        ..Run::default()
    }
}

fn mounted(script: &str, target: &str, kind: RunMountKind) -> Run {
    Run {
        mounts: vec![RunMount {
            target: target.to_owned(),
            kind,
        }],
        ..sh(script)
    }
}

/// Paths in the topmost layer with what they are.
fn top(image: &Image) -> Vec<String> {
    fn walk(folder: &Path, below: &str, found: &mut Vec<String>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                found.push(format!("{path}/"));
                walk(&entry.path(), &format!("{path}/"), found);
            } else if about.rdev() == 0 && !about.is_file() && !about.is_symlink() {
                found.push(format!("{path} gone"));
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&image.layers[0].directory, "", &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_no_flush_of_the_disk() {
    let yard = Yard::new().await;
    let (_, output) = yard.run(sh("grep ' / ' /proc/self/mounts; sync")).await;
    assert!(
        output.contains("overlay") && output.contains("volatile"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_leaves_what_it_changed_and_nothing_else() {
    let yard = Yard::new().await;
    let (image, output) = yard
        .run(sh(
            "echo hello; echo oops >&2; mkdir /new; echo x > /new/file; rm /bin/wc; id -u; cat /etc/hosts > /dev/null; mv /home/dev /home/moved",
        ))
        .await;
    assert!(
        output.contains("hello\n") && output.contains("oops\n"),
        "{output}"
    );
    assert_eq!(
        top(&image),
        [
            "bin/",
            "bin/wc gone",
            "home/",
            "home/dev gone",
            "home/moved/",
            "new/",
            "new/file"
        ]
    );
    let file = std::fs::metadata(image.layers[0].directory.join("new/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (0, 0));
    let moved = std::fs::metadata(image.layers[0].directory.join("home/moved")).unwrap();
    assert_eq!((moved.uid(), moved.gid()), (1000, 1000));
    // Its tar is what the tree says, whiteouts included: an export checks the digest.
    let out = yard.folder.path().join("out.tar");
    yard.images
        .export(&image.reference, &out, Format::OciArchive, Arc::new(Quiet))
        .await
        .unwrap();
    let other = Images::open(
        &yard.folder.path().join("other"),
        boatyard_image::Options::default(),
    )
    .unwrap();
    let again = other.import(&out, None, Arc::new(Quiet)).await.unwrap();
    assert_eq!(top(&again), top(&image));
    assert_eq!(yard.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_folder_and_variables_are_the_steps() {
    let yard = Yard::new().await;
    let run = Run {
        user: "dev".to_owned(),
        cwd: "/made/here".to_owned(),
        env: vec![
            ("PATH".to_owned(), "/bin".to_owned()),
            ("WORD".to_owned(), "a b".to_owned()),
        ],
        ..sh("echo $(id -u):$(id -g) $HOME $PWD \"$WORD\" [$USER$SHELL]")
    };
    let (image, output) = yard.run(run).await;
    assert_eq!(output, "1000:1000 /home/dev /made/here a b []\n");
    assert_eq!(top(&image), ["made/", "made/here/"]);
    let (built, _) = yard
        .build(yard.request(vec![Run {
            user: "ghost".to_owned(),
            ..sh("true")
        }]))
        .await;
    assert!(built.unwrap_err().to_string().contains("ghost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_was_printed_and_leaves_nothing() {
    let yard = Yard::new().await;
    let request = yard.request(vec![
        sh("echo before"),
        sh("echo why not; touch /x; exit 3"),
    ]);
    let (built, noted) = yard.build(request).await;
    let error = built.unwrap_err();
    let boatyard_image::Error::Step { exit_code, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*exit_code, Some(3));
    assert!(error.to_string().contains("why not"), "{error}");
    use Outcome::{Cached, Done, Failed};
    assert_eq!(*noted.outcomes.lock().unwrap(), [Done, Done, Failed]);
    assert_eq!(yard.leftovers(), Vec::<String>::new());
    let staging = yard.folder.path().join("images/staging");
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
    // What came before it is found again; it itself is not.
    let request = yard.request(vec![sh("echo before"), sh("exit 0")]);
    let (built, noted) = yard.build(request).await;
    built.unwrap();
    assert_eq!(*noted.outcomes.lock().unwrap(), [Done, Cached, Done]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_leaves_running_ends_with_it() {
    let yard = Yard::new().await;
    let (_, output) = yard.run(sh("sleep 1000 & echo started")).await;
    assert_eq!(output, "started\n");
    assert_eq!(yard.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_there_while_it_runs_and_in_no_layer() {
    let yard = Yard::new().await;
    std::fs::create_dir_all(yard.context().join("sub")).unwrap();
    std::fs::write(yard.context().join("sub/file"), "from context").unwrap();
    let bind = |writable| RunMountKind::Bind {
        from: Origin::Context(String::new()),
        source: "/sub".to_owned(),
        writable,
    };
    let (image, output) = yard
        .run(mounted(
            "cat /mnt/it/file; echo; echo y > /mnt/it/new || echo refused; echo done > /done",
            "/mnt/it",
            bind(false),
        ))
        .await;
    assert!(
        output.contains("from context\n") && output.contains("refused"),
        "{output}"
    );
    assert_eq!(top(&image), ["done"]);
    let (image, _) = yard
        .run(mounted(
            "echo y > /mnt/it/new && touch /done2",
            "/mnt/it",
            bind(true),
        ))
        .await;
    assert_eq!(top(&image), ["done2"]);
    assert!(!yard.context().join("sub/new").exists());
    let cache = || RunMountKind::Cache {
        id: "the-cache".to_owned(),
        from: None,
        read_only: false,
        sharing: Sharing::Locked,
        mode: 0o755,
        uid: 1000,
        gid: 1000,
    };
    let tick = "echo tick >> /cache/ticks; grep -c tick /cache/ticks; stat -c %u /cache";
    let (_, first) = yard.run(mounted(tick, "/cache", cache())).await;
    assert_eq!(first, "1\n1000\n");
    let mut request = yard.request(vec![mounted(tick, "/cache", cache())]);
    request.no_cache = true;
    let (built, noted) = yard.build(request).await;
    built.unwrap();
    assert_eq!(noted.text(), "2\n1000\n");
    let file = Run {
        files: vec![InlineFile {
            path: "/dev/pipes/EOF".to_owned(),
            contents: "#!/bin/sh\necho from heredoc\n".to_owned(),
            mode: 0o755,
        }],
        ..sh("/dev/pipes/EOF")
    };
    let (_, output) = yard.run(file).await;
    assert_eq!(output, "from heredoc\n");
    let (_, output) = yard
        .run(mounted(
            "stat -f -c %T /scratch; touch /scratch/x",
            "/scratch",
            RunMountKind::Tmpfs {
                size: Some(1 << 20),
            },
        ))
        .await;
    assert!(output.contains("tmpfs"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_seen_by_its_step_and_stays_nowhere() {
    const SECRET: &str = "hunter2-of-this-test";
    let yard = Yard::new().await;
    let secret = |as_file: bool| RunMountKind::Secret {
        id: "token".to_owned(),
        env: (!as_file).then(|| "TOKEN".to_owned()),
        as_file,
        required: true,
        mode: 0o400,
        uid: 1000,
        gid: 0,
    };
    for (script, as_file) in [
        (
            "cat /run/secrets/token | wc -c; stat -c %u:%a /run/secrets/token",
            true,
        ),
        ("echo ${#TOKEN}; echo 1000:400", false),
    ] {
        let mut request =
            yard.request(vec![mounted(script, "/run/secrets/token", secret(as_file))]);
        request.secrets.insert("token".to_owned(), SECRET.into());
        let (built, noted) = yard.build(request).await;
        built.unwrap();
        assert_eq!(noted.text(), format!("{}\n1000:400\n", SECRET.len()));
    }
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "-F", SECRET])
        .arg(yard.folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
    let own = format!("boatyard-secrets-{}-", std::process::id());
    for entry in std::fs::read_dir("/dev/shm").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.starts_with(&own), "{name}");
    }
    // Its value is in no key; that it is missing is said.
    let mut request = yard.request(vec![mounted(
        "cat /run/secrets/token | wc -c; stat -c %u:%a /run/secrets/token",
        "/run/secrets/token",
        secret(true),
    )]);
    request.secrets.insert("token".to_owned(), "other".into());
    let (_, noted) = yard.build(request).await;
    assert_eq!(
        *noted.outcomes.lock().unwrap(),
        [Outcome::Done, Outcome::Cached]
    );
    let missing = yard.request(vec![mounted("true", "/run/secrets/token", secret(true))]);
    let error = yard.build(missing).await.0.unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_given_up_leaves_no_process() {
    let yard = Yard::new().await;
    let noted = Arc::new(Noted::default());
    let request = yard.request(vec![sh("echo running; sleep 1000")]);
    let (builder, seen) = (yard.builder.clone(), noted.clone());
    let building = tokio::spawn(async move { builder.build(request, seen).await.map(drop) });
    let waited = tokio::task::spawn_blocking(move || {
        wait::until("the step runs", || {
            noted.text().contains("running").then_some(())
        });
    });
    waited.await.unwrap();
    building.abort();
    assert!(building.await.is_err());
    wait::until("its sandbox is gone", || {
        yard.leftovers().is_empty().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_as_strictly_isolated_as_an_environment() {
    let yard = Yard::new().await;
    let (_, output) = yard
        .run(sh(
            "cat /proc/self/uid_map | tr -s ' '; mknod /x b 8 0 2>/dev/null || echo no device; ls /proc/1/root/../ > /dev/null; ps | grep -c .; mount -t proc none /proc/sys 2>&1 | head -1 > /dev/null; ip link | grep -c '^[0-9]'",
        ))
        .await;
    assert!(output.contains("no device"), "{output}");
    assert!(
        !output.starts_with(" 0 0 "),
        "root inside is root outside: {output}"
    );
    // Loopback alone.
    assert!(output.trim_end().ends_with('1'), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_seen_and_part_of_no_key() {
    let yard = Yard::new().await;
    let with = |proxy: &str| Run {
        unkeyed_env: vec![("http_proxy".to_owned(), proxy.to_owned())],
        ..sh("echo $http_proxy > /proxy; echo $http_proxy")
    };
    let (_, output) = yard.run(with("http://one")).await;
    assert_eq!(output, "http://one\n");
    let (built, noted) = yard.build(yard.request(vec![with("http://two")])).await;
    built.unwrap();
    assert_eq!(
        noted.outcomes.lock().unwrap().last(),
        Some(&Outcome::Cached)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_runs_as_it_is_written() {
    use boatyard_devcontainer::dockerfile::{Answer, Dockerfile, Request as Wanted};
    let yard = Yard::new().await;
    let text = "ARG V=1\nFROM base:1 AS made\nARG V\nSHELL [\"/bin/sh\", \"-ec\"]\nWORKDIR /w\n\
                RUN <<EOF\necho one$V\necho two > two\nEOF\n\
                RUN <<'SCRIPT'\n#!/bin/sh\necho script $0 $V\nSCRIPT\n\
                RUN cat <<-A > three\n\tthree $V\n\tA\n\
                FROM base:1\nCOPY --from=made /w /x\n\
                RUN --network=none --mount=from=made,source=/w,target=/m cat /m/two /x/three [V=$V]; \\\n\
                # a comment\n  true\n";
    let file = Dockerfile::parse("Dockerfile", text).unwrap();
    let mut wanted = Wanted::new("linux/amd64");
    wanted.build_args.insert("V".to_owned(), "7".to_owned());
    let images = BTreeMap::from([("base:1".to_owned(), ImageState::default())]);
    let Answer::Plan(planned) = file.plan(&wanted, &images).unwrap() else {
        panic!("needs more images")
    };
    let request = Request {
        plan: planned.plan,
        ..yard.request(Vec::new())
    };
    let (built, noted) = yard.build(request).await;
    let output = noted.text();
    let image = built.unwrap_or_else(|error| panic!("{error}\n{output}"));
    for line in ["one7", "script /dev/pipes/SCRIPT 7", "two", "three 7"] {
        assert!(
            output.lines().any(|found| found == line),
            "{line}: {output}"
        );
    }
    assert!(
        output.contains("[V=]"),
        "an argument ends with its stage: {output}"
    );
    let copied = std::fs::read_to_string(image.layers[0].directory.join("x/two"));
    assert_eq!(copied.unwrap(), "two\n");
    assert_eq!(yard.leftovers(), Vec::<String>::new());
}

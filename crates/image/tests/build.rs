//! Steps that copy, their keys, and the layers they leave: no process runs here. Processes in
//! sandboxes are testkit's `builds`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use boatyard_devcontainer::build::{
    Base, BuildPlan, Copy, CopySource, ImageState, InlineFile, Op, Origin, Stage, Step,
};
use boatyard_image::build::{BuildProgress, Builder, Context, Event, Outcome, Policy, Request};
use boatyard_image::{Format, Image, Images, Reference};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use support::{Nothing, Tar, images, options, quiet, run};

#[derive(Default)]
struct Noted(Mutex<Vec<Outcome>>);

impl BuildProgress for Noted {
    fn event(&self, event: Event) {
        if let Event::Ended { outcome, .. } = event {
            self.0.lock().unwrap().push(outcome);
        }
    }
}

struct Yard {
    folder: tempfile::TempDir,
    images: Images,
    builder: Builder,
}

impl Yard {
    async fn new() -> Yard {
        let folder = tempfile::tempdir().unwrap();
        let base = Tar::new()
            .file(
                "etc/passwd",
                b"root:x:0:0::/root:/bin/sh\ndev:x:1000:1001::/home/dev:/bin/sh\n",
            )
            .folder("usr/bin", 0o711)
            .link(tar::EntryType::Symlink, "bin", "usr/bin")
            .link(tar::EntryType::Symlink, "escape", "/../../etc")
            .file("a-file", b"old")
            .folder("deep/down", 0o750)
            .end();
        let layout = folder.path().join("layout");
        support::write_layout(&layout, &[base], "amd64");
        let images = images(&folder.path().join("images"), options());
        let name = Reference::parse("base:1").unwrap();
        images.import(&layout, Some(&name), quiet()).await.unwrap();
        let builder = Builder::open(
            images.clone(),
            Arc::new(Nothing),
            PathBuf::from("/nonexistent"),
            Policy::default(),
        )
        .unwrap();
        std::fs::create_dir(folder.path().join("context")).unwrap();
        Yard {
            folder,
            images,
            builder,
        }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn write(&self, path: &str, contents: &str) {
        let path = self.context().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    fn request(&self, plan: BuildPlan) -> Request {
        Request {
            plan,
            names: vec![Reference::parse("built:1").unwrap()],
            contexts: BTreeMap::from([(String::new(), Context::folder(&self.context()).unwrap())]),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
        }
    }

    async fn build(&self, steps: Vec<Op>) -> (Result<Image, boatyard_image::Error>, Vec<Outcome>) {
        let noted = Arc::new(Noted::default());
        let request = self.request(plan(Base::Image("base:1".to_owned()), steps));
        let built = self.builder.build(request, noted.clone()).await;
        // The first is the base's.
        let outcomes = noted.0.lock().unwrap()[1..].to_vec();
        (built, outcomes)
    }

    async fn built(&self, steps: Vec<Op>) -> Image {
        self.build(steps).await.0.unwrap()
    }
}

fn plan(base: Base, steps: Vec<Op>) -> BuildPlan {
    let step = |op| Step {
        text: "COPY something".to_owned(),
        location: None,
        op,
    };
    BuildPlan {
        stages: vec![Stage {
            name: "0".to_owned(),
            base,
            steps: steps.into_iter().map(step).collect(),
            state: ImageState {
                env: vec![("A".to_owned(), "b".to_owned())],
                ..ImageState::default()
            },
        }],
    }
}

fn files(patterns: &[&str], destination: &str) -> Copy {
    Copy {
        sources: patterns
            .iter()
            .map(|pattern| CopySource::Files {
                from: Origin::Context(String::new()),
                pattern: (*pattern).to_owned(),
            })
            .collect(),
        destination: destination.to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        unpack: false,
    }
}

fn copy(patterns: &[&str], destination: &str) -> Op {
    Op::Copy(files(patterns, destination))
}

/// Paths in the topmost layer.
fn top(image: &Image) -> Vec<String> {
    let tree = &image.layers[0].directory;
    let listed = run(std::process::Command::new("find").arg(tree).args([
        "-mindepth",
        "1",
        "-printf",
        "%P\n",
    ]));
    let mut paths: Vec<_> = listed.lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

fn read(image: &Image, path: &str) -> String {
    std::fs::read_to_string(image.layers[0].directory.join(path)).unwrap()
}

#[tokio::test]
async fn files_go_where_the_destination_says() {
    let yard = Yard::new().await;
    yard.write("one.txt", "1");
    yard.write("two.txt", "2");
    yard.write("folder/sub/x", "x");
    for (patterns, destination, expected) in [
        (&["one.txt"][..], "/to", &["to"][..]),
        (&["one.txt"], "/to/", &["to", "to/one.txt"]),
        (
            &["one.txt"],
            "/deep/down",
            &["deep", "deep/down", "deep/down/one.txt"],
        ),
        (&["*.txt"], "/t/", &["t", "t/one.txt", "t/two.txt"]),
        (&["folder"], "/f", &["f", "f/sub", "f/sub/x"]),
        (
            &["folder", "one.txt"],
            "/f",
            &["f", "f/one.txt", "f/sub", "f/sub/x"],
        ),
        (&["f*/s*"], "/f", &["f", "f/x"]),
        (&["../../one.txt"], "/to", &["to"]),
        // Links of the image lead within it.
        (
            &["one.txt"],
            "/bin/tool",
            &["usr", "usr/bin", "usr/bin/tool"],
        ),
        (
            &["one.txt"],
            "/escape/x/",
            &["etc", "etc/x", "etc/x/one.txt"],
        ),
    ] {
        let image = yard.built(vec![copy(patterns, destination)]).await;
        assert_eq!(top(&image), expected, "{patterns:?} to {destination}");
    }
    // A folder of the image keeps its own attributes.
    let image = yard.built(vec![copy(&["one.txt"], "/bin/tool")]).await;
    let about = std::fs::metadata(image.layers[0].directory.join("usr/bin")).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o711);
}

#[tokio::test]
async fn what_cannot_be_copied_is_said_by_name() {
    let yard = Yard::new().await;
    yard.write("one.txt", "1");
    yard.write("bin/tool", "1");
    for (patterns, destination, words) in [
        ("missing", "/x", "\"/missing\" is not in the build context"),
        ("one.txt", "/a-file/x", "a-file"),
        (".", "/", "/bin is no directory"),
    ] {
        let (outcome, _) = yard.build(vec![copy(&[patterns], destination)]).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.reason(), "BuildFailed");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn owners_modes_parents_and_excludes() {
    let yard = Yard::new().await;
    yard.write("src/a.rs", "a");
    yard.write("src/b.md", "b");
    yard.write("src/deep/c.md", "c");
    let owned = Copy {
        chown: Some("dev".to_owned()),
        chmod: Some("u=rwX,go=".to_owned()),
        exclude: vec!["**/*.md".to_owned()],
        ..files(&["src"], "/new/src")
    };
    let image = yard.built(vec![Op::Copy(owned)]).await;
    assert_eq!(
        top(&image),
        ["new", "new/src", "new/src/a.rs", "new/src/deep"]
    );
    let about = std::fs::metadata(image.layers[0].directory.join("new/src/a.rs")).unwrap();
    assert_eq!(
        (about.uid(), about.gid(), about.mode() & 0o7777),
        (1000, 1001, 0o600)
    );
    let with_parents = Copy {
        parents: true,
        ..files(&["src/deep/c.md"], "/p")
    };
    let image = yard.built(vec![Op::Copy(with_parents)]).await;
    assert_eq!(top(&image), ["p", "p/src", "p/src/deep", "p/src/deep/c.md"]);
}

#[tokio::test]
async fn links_of_the_context_are_followed_as_sources_and_kept_below() {
    let yard = Yard::new().await;
    yard.write("folder/real", "r");
    symlink("real", yard.context().join("folder/link")).unwrap();
    symlink("folder/link", yard.context().join("entry")).unwrap();
    symlink("/etc/shadow", yard.context().join("out")).unwrap();
    let image = yard.built(vec![copy(&["entry"], "/e")]).await;
    assert_eq!(read(&image, "e"), "r");
    let image = yard.built(vec![copy(&["folder"], "/f")]).await;
    let link = std::fs::read_link(image.layers[0].directory.join("f/link")).unwrap();
    assert_eq!(link, Path::new("real"));
    let (outcome, _) = yard.build(vec![copy(&["out"], "/o")]).await;
    assert!(outcome.unwrap_err().to_string().contains("/out"));
}

#[tokio::test]
async fn a_step_is_done_again_only_when_what_it_reads_changes() {
    let yard = Yard::new().await;
    yard.write("read", "1");
    yard.write("other", "1");
    let steps = || {
        vec![
            copy(&["read"], "/read"),
            Op::MakeDirectory {
                path: "/work".to_owned(),
                user: String::new(),
            },
        ]
    };
    use Outcome::{Cached, Done};
    let (first, outcomes) = yard.build(steps()).await;
    assert_eq!(outcomes, [Done, Done]);
    let (second, outcomes) = yard.build(steps()).await;
    assert_eq!(outcomes, [Cached, Cached]);
    // To the byte: the time of a build is in no image.
    assert_eq!(first.unwrap().digest, second.unwrap().digest);
    yard.write("other", "2");
    assert_eq!(yard.build(steps()).await.1, [Cached, Cached]);
    yard.write("read", "2");
    assert_eq!(yard.build(steps()).await.1, [Done, Done]);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(yard.context().join("read"), mode).unwrap();
    assert_eq!(yard.build(steps()).await.1, [Done, Done]);
    yard.write("read", "1");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(yard.context().join("read"), mode).unwrap();
    assert_eq!(yard.build(steps()).await.1, [Cached, Cached]);
}

#[tokio::test]
async fn a_linked_copy_is_found_on_another_base() {
    let yard = Yard::new().await;
    yard.write("file", "1");
    yard.write("first", "1");
    let linked = || {
        Op::Copy(Copy {
            link: true,
            ..files(&["file"], "/opt/x/")
        })
    };
    use Outcome::{Cached, Done};
    let below = |path: &str| copy(&["first"], path);
    assert_eq!(
        yard.build(vec![below("/a"), linked()]).await.1,
        [Done, Done]
    );
    assert_eq!(
        yard.build(vec![below("/b"), linked()]).await.1,
        [Done, Cached]
    );
}

#[tokio::test]
async fn pruning_keeps_what_was_built_lately_and_forgets_what_is_gone() {
    let yard = Yard::new().await;
    yard.write("file", "1");
    let steps = || vec![copy(&["file"], "/file")];
    let image = yard.built(steps()).await;
    yard.images
        .remove(&Reference::parse("built:1").unwrap())
        .unwrap();
    assert_eq!(yard.images.prune(&[]).unwrap().layers, 0);
    assert_eq!(yard.build(steps()).await.1, [Outcome::Cached]);
    // As after damage: the entry is there, its layer is not.
    let layer = image.layers[0].directory.parent().unwrap().to_owned();
    std::fs::remove_dir_all(&layer).unwrap();
    assert_eq!(yard.build(steps()).await.1, [Outcome::Done]);
    let entries = yard.folder.path().join("images/build/cache");
    for entry in std::fs::read_dir(&entries).unwrap() {
        let file = std::fs::File::options()
            .write(true)
            .open(entry.unwrap().path())
            .unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    yard.images
        .remove(&Reference::parse("built:1").unwrap())
        .unwrap();
    assert_eq!(yard.images.prune(&[]).unwrap().layers, 1);
    assert_eq!(yard.build(steps()).await.1, [Outcome::Done]);
}

#[tokio::test]
async fn of_what_builds_keep_what_was_used_last_stays_up_to_a_size() {
    let yard = Yard::new().await;
    yard.write("one", &"1".repeat(100_000));
    yard.write("two", &"2".repeat(100_000));
    let step = |name: &str| vec![copy(&[name], "/file")];
    for name in ["one", "two"] {
        yard.built(step(name)).await;
        yard.images
            .remove(&Reference::parse("built:1").unwrap())
            .unwrap();
    }
    // The first is used again: the other one goes.
    assert_eq!(yard.build(step("one")).await.1, [Outcome::Cached]);
    yard.images
        .remove(&Reference::parse("built:1").unwrap())
        .unwrap();
    assert_eq!(yard.images.prune_to(&[], 1 << 30).unwrap().layers, 0);
    assert_eq!(yard.images.prune_to(&[], 150_000).unwrap().layers, 1);
    assert_eq!(yard.build(step("one")).await.1, [Outcome::Cached]);
    assert_eq!(yard.build(step("two")).await.1, [Outcome::Done]);
    // What a name or an environment has is not counted, and stays.
    let image = yard.built(step("two")).await;
    let used = vec![image.layers[0].id.clone()];
    yard.images
        .remove(&Reference::parse("built:1").unwrap())
        .unwrap();
    assert_eq!(yard.images.prune_to(&used, 0).unwrap().layers, 1);
    assert!(image.layers[0].directory.exists());
}

#[tokio::test]
async fn a_built_image_goes_out_and_comes_in_as_it_is() {
    let yard = Yard::new().await;
    yard.write("folder/file", "content");
    let long = format!("{}/{}", "d".repeat(90), "ü".repeat(40));
    yard.write(&format!("folder/{long}"), "long");
    symlink("x".repeat(150), yard.context().join("folder/link")).unwrap();
    let inline = Copy {
        sources: vec![CopySource::Inline(InlineFile {
            path: "EOF".to_owned(),
            contents: "hello\n".to_owned(),
            mode: 0o640,
        })],
        ..files(&[], "/greeting")
    };
    let image = yard
        .built(vec![copy(&["folder"], "/folder"), Op::Copy(inline)])
        .await;
    assert_eq!(read(&image, "greeting"), "hello\n");
    let archive = yard.folder.path().join("out.tar");
    yard.images
        .export(&image.reference, &archive, Format::DockerArchive, quiet())
        .await
        .unwrap();
    let other = images(&yard.folder.path().join("other"), options());
    let again = other.import(&archive, None, quiet()).await.unwrap();
    let ids = |image: &Image| {
        image
            .layers
            .iter()
            .map(|layer| layer.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&again), ids(&image));
    assert_eq!(again.config.env, ["A=b"]);
    // The base came without entries for some of its folders.
    for (one, other) in image.layers.iter().zip(&again.layers).take(2) {
        let listing = |path: &Path| {
            run(std::process::Command::new("find").arg(path).args([
                "-mindepth",
                "1",
                "-printf",
                "%P %y %m %U %G %T@ %l\n",
            ]))
            .lines()
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(listing(&one.directory), listing(&other.directory));
    }
    // And other tools read it.
    let seen = run(std::process::Command::new("skopeo")
        .args(["inspect", "--config"])
        .arg(format!("docker-archive:{}", archive.display())));
    assert!(seen.contains("COPY something"), "{seen}");
}

#[tokio::test]
async fn stages_read_each_other_and_a_file_that_comes_out_the_same_changes_nothing() {
    let yard = Yard::new().await;
    yard.write("source", "1");
    yard.write("unread", "1");
    let two = || {
        let mut plan = plan(
            Base::Image("base:1".to_owned()),
            vec![copy(&["unread"], "/unread"), copy(&["source"], "/made")],
        );
        let from = Copy {
            sources: vec![CopySource::Files {
                from: Origin::Stage(0),
                pattern: "/made".to_owned(),
            }],
            ..files(&[], "/final")
        };
        plan.stages.push(Stage {
            name: "final".to_owned(),
            base: Base::Scratch,
            steps: vec![Step {
                text: "COPY --from=0 /made /final".to_owned(),
                location: None,
                op: Op::Copy(from),
            }],
            state: ImageState::default(),
        });
        plan
    };
    let noted = Arc::new(Noted::default());
    let request = yard.request(two());
    let image = yard.builder.build(request, noted.clone()).await.unwrap();
    assert_eq!(image.layers.len(), 1);
    assert_eq!(read(&image, "final"), "1");
    yard.write("unread", "2");
    let noted = Arc::new(Noted::default());
    let request = yard.request(two());
    yard.builder.build(request, noted.clone()).await.unwrap();
    use Outcome::{Cached, Done};
    assert_eq!(*noted.0.lock().unwrap(), [Done, Done, Done, Cached]);
}

#[tokio::test]
async fn what_is_ignored_does_not_exist() {
    let yard = Yard::new().await;
    yard.write("kept", "1");
    yard.write("target/huge", "1");
    let ignore: boatyard_image::build::Ignore =
        Arc::new(|path: &Path, _| path.starts_with("target"));
    for (pattern, found) in [(".", true), ("target/huge", false)] {
        let mut request = yard.request(plan(Base::Scratch, vec![copy(&[pattern], "/x/")]));
        let context = Context::folder(&yard.context())
            .unwrap()
            .ignoring(ignore.clone());
        request.contexts.insert(String::new(), context);
        let built = yard
            .builder
            .build(request, Arc::new(Noted::default()))
            .await;
        assert_eq!(built.is_ok(), found);
        if let Ok(image) = built {
            assert_eq!(top(&image), ["x", "x/kept"]);
        }
    }
}

//! From a Dockerfile's text to a layer: what copies are as a person writes them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use boatyard_devcontainer::build::ImageState;
use boatyard_devcontainer::dockerfile::{Answer, Dockerfile, Ignore, Request as Wanted};
use boatyard_image::build::{BuildProgress, Builder, Context, Event, Policy, Request};
use boatyard_image::{Error, Image, Images, Reference};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{Nothing, Tar, images, options, run};

struct Silent;

impl BuildProgress for Silent {
    fn event(&self, _: Event) {}
}

struct Yard {
    folder: tempfile::TempDir,
    images: Images,
    builder: Builder,
}

impl Yard {
    fn new() -> Yard {
        let folder = tempfile::tempdir().unwrap();
        let images = images(&folder.path().join("images"), options());
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

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("context").join(path)
    }

    fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// Builds a text; `.dockerignore` of the context counts.
    async fn build(&self, text: &str) -> Result<Image, Error> {
        let file = Dockerfile::parse("Dockerfile", text).unwrap();
        let images: BTreeMap<String, ImageState> = BTreeMap::new();
        let planned = match file.plan(&Wanted::new("linux/amd64"), &images).unwrap() {
            Answer::Plan(planned) => planned,
            Answer::NeedsMore(more) => panic!("needs {more:?}"),
        };
        let mut context = Context::folder(&self.path("")).unwrap();
        if let Ok(text) = std::fs::read_to_string(self.path(".dockerignore")) {
            let ignore = Ignore::parse(".dockerignore", &text).unwrap();
            context = context.ignoring(Arc::new(move |path: &Path, folder| {
                ignore.hides(path.to_str().unwrap(), folder)
            }));
        }
        let request = Request {
            plan: planned.plan,
            names: vec![Reference::parse("built:1").unwrap()],
            contexts: BTreeMap::from([(String::new(), context)]),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
        };
        self.builder.build(request, Arc::new(Silent)).await
    }

    /// Paths of the topmost layer; folders end in a slash.
    async fn top(&self, text: &str) -> Vec<String> {
        let image = self
            .build(text)
            .await
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut find = std::process::Command::new("find");
        find.arg(&image.layers[0].directory);
        let listed = run(find
            .args(["-mindepth", "1", "-type", "d", "-printf", "%P/\n", "-o"])
            .args(["-printf", "%P\n"]));
        let mut paths: Vec<String> = listed.lines().map(str::to_owned).collect();
        paths.retain(|path| !path.is_empty());
        paths.sort();
        paths
    }
}

#[tokio::test]
async fn parents_are_kept_from_the_pivot_on() {
    let yard = Yard::new();
    for path in ["a/b/c/x.c", "a/b/y.c", "a/z.h", "d/b/x.c"] {
        yard.write(path, path);
    }
    for (source, expected) in [
        (
            "--parents a/b/y.c",
            vec!["o/", "o/a/", "o/a/b/", "o/a/b/y.c"],
        ),
        ("--parents ./a/./b/y.c", vec!["o/", "o/b/", "o/b/y.c"]),
        ("--parents a/b/./y.c", vec!["o/", "o/y.c"]),
        ("--parents */b/./x.c", vec!["o/", "o/x.c"]),
        (
            "--parents a/./**/*.c",
            vec!["o/", "o/b/", "o/b/c/", "o/b/c/x.c", "o/b/y.c"],
        ),
        (
            "--parents **/x.c",
            vec![
                "o/",
                "o/a/",
                "o/a/b/",
                "o/a/b/c/",
                "o/a/b/c/x.c",
                "o/d/",
                "o/d/b/",
                "o/d/b/x.c",
            ],
        ),
        ("a/b", vec!["o/", "o/c/", "o/c/x.c", "o/y.c"]),
        ("a/*/y.c", vec!["o/", "o/y.c"]),
        ("--exclude=**/*.c a", vec!["o/", "o/b/", "o/b/c/", "o/z.h"]),
    ] {
        let found = yard
            .top(&format!("FROM scratch\nCOPY {source} /o/\n"))
            .await;
        assert_eq!(found, expected, "{source}");
    }
}

#[tokio::test]
async fn add_unpacks_archives_and_copy_does_not() {
    let yard = Yard::new();
    let tar = || {
        Tar::new()
            .folder("bin", 0o711)
            .file("bin/tool", b"tool")
            .link(tar::EntryType::Symlink, "sh", "bin/tool")
            .end()
    };
    yard.write("plain.tar", tar());
    yard.write("no.tar", "this is no archive");
    let gzip = run(std::process::Command::new("gzip")
        .args(["-k", "-S", ".gz"])
        .arg(yard.path("plain.tar")));
    assert_eq!(gzip, "");
    run(std::process::Command::new("gzip")
        .arg("-k")
        .arg(yard.path("no.tar")));
    let unpacked = vec!["o/", "o/bin/", "o/bin/tool", "o/sh"];
    for (step, expected) in [
        ("ADD plain.tar /o", unpacked.clone()),
        ("ADD plain.tar /o/", unpacked.clone()),
        ("ADD plain.tar.gz /o/", unpacked.clone()),
        (
            "ADD *.gz plain.tar /o/",
            vec!["o/", "o/bin/", "o/bin/tool", "o/no.tar.gz", "o/sh"],
        ),
        (
            "ADD --unpack=false plain.tar /o/",
            vec!["o/", "o/plain.tar"],
        ),
        ("COPY plain.tar /o/", vec!["o/", "o/plain.tar"]),
        (
            "ADD no.tar no.tar.gz /o/",
            vec!["o/", "o/no.tar", "o/no.tar.gz"],
        ),
        ("ADD plain.tar /", vec!["bin/", "bin/tool", "sh"]),
    ] {
        assert_eq!(
            yard.top(&format!("FROM scratch\n{step}\n")).await,
            expected,
            "{step}"
        );
    }
    let image = yard
        .build("FROM scratch\nADD --chown=5:6 --chmod=700 plain.tar /o/\n")
        .await
        .unwrap();
    let tool = image.layers[0].directory.join("o/bin").metadata().unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o777), (5, 6, 0o711));
    let beside = image.layers[0].directory.parent().unwrap().join("added");
    assert!(!beside.exists(), "what was unpacked first is gone");
}

#[tokio::test]
async fn add_unpacks_what_xz_and_bzip2_compressed_and_copies_what_only_looks_so() {
    let yard = Yard::new();
    let archive = Tar::new().file("bin/tool", b"tool").end();
    yard.write("plain.tar", &archive);
    for (program, name) in [("xz", "a.tar.xz"), ("bzip2", "a.tar.bz2")] {
        let compressed = std::process::Command::new(program)
            .args(["--keep", "--stdout"])
            .arg(yard.path("plain.tar"))
            .output()
            .expect("tests need xz and bzip2: apt-get install xz-utils bzip2");
        yard.write(name, compressed.stdout);
        let step = format!("FROM scratch\nADD {name} /o/\n");
        assert_eq!(yard.top(&step).await, ["o/", "o/bin/", "o/bin/tool"]);
    }
    yard.write("no.xz", b"\xfd7zXZ\0rest");
    yard.write("no.bz2", b"BZh91AY");
    let step = "FROM scratch\nADD no.xz no.bz2 /o/\n";
    assert_eq!(yard.top(step).await, ["o/", "o/no.bz2", "o/no.xz"]);
}

#[tokio::test]
async fn what_add_cannot_unpack_is_said_by_name() {
    let yard = Yard::new();
    let escape = Tar::new()
        .link(tar::EntryType::Symlink, "out", "/etc")
        .file("out/boatyard-escaped", b"x")
        .end();
    yard.write("escape.tar", &escape);
    yard.write("short.tar", &escape[..600]);
    for (name, expected) in [
        ("escape.tar", "out/boatyard-escaped"),
        ("short.tar", "short.tar"),
    ] {
        let error = yard
            .build(&format!("FROM scratch\nADD {name} /o/\n"))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(text.contains("Dockerfile:2:1"), "{name}: {text}");
    }
    assert!(!Path::new("/etc/boatyard-escaped").exists());
}

#[tokio::test]
async fn ignored_files_are_not_there_and_come_back_where_they_are_wanted() {
    let yard = Yard::new();
    for path in [
        "src/a.rs",
        "src/b.md",
        "target/x",
        "README.md",
        "node_modules/keep/y",
        "z",
    ] {
        yard.write(path, path);
    }
    symlink("a.rs", yard.path("src/link")).unwrap();
    yard.write(
        ".dockerignore",
        "# most of it\n*\n!src\n**/*.md\n!README.md\n!node_modules/*/y\n",
    );
    let expected = [
        "README.md",
        "node_modules/",
        "node_modules/keep/",
        "node_modules/keep/y",
        "src/",
        "src/a.rs",
        "src/link",
    ];
    assert_eq!(yard.top("FROM scratch\nCOPY . /\n").await, expected);
    let error = yard.build("FROM scratch\nCOPY z /\n").await.unwrap_err();
    assert!(
        error.to_string().contains("is not in the build context"),
        "{error}"
    );
}

#[tokio::test]
async fn stages_heredocs_and_working_directories_end_in_one_image() {
    let yard = Yard::new();
    yard.write("in", "in");
    let image = yard
        .build(
            "FROM scratch AS one\nARG V=7\nWORKDIR /w\nCOPY <<v <<-'raw' ./\nv=$V\nv\n\t$V\nraw\n\
             FROM scratch AS unused\nCOPY missing /\n\
             FROM scratch\nENV D=/d\nCOPY --from=one --chmod=0600 /w/v $D/\nWORKDIR $D\n\
             COPY --from=0 /w/raw in2\nLABEL l=$D\nCMD [\"x\"]\n",
        )
        .await
        .unwrap();
    let read = |path: &str| {
        let tree = image.layers.iter().map(|layer| layer.directory.join(path));
        let found = tree
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .next();
        found.unwrap_or_else(|| panic!("no {path}"))
    };
    assert_eq!(read("d/v"), "v=7\n");
    assert_eq!(read("d/in2"), "$V\n");
    assert_eq!(image.config.working_dir.as_deref(), Some("/d"));
    assert!(
        yard.images
            .find(&Reference::parse("built:1").unwrap())
            .is_ok()
    );
}

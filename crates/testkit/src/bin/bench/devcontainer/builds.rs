//! Builds: a Dockerfile of six steps, and a configuration edited that leaves its Features alone.
//!
//! The six steps install a compiler from a mirror on this machine, compile, and copy. From nothing
//! means that the first step's file is new in each round, so that no later step is in a cache; the
//! base image is on disk. Both sides end in a flush of the file system that holds their storage.

use super::mirror::{Mirror, PACKAGES};
use super::{Reference, contenders, ours};
use crate::figures::{Table, time};
use crate::quiet;
use boatyard_testkit::{Daemon, development};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Files of the library that is compiled, and functions in each.
const SOURCES: usize = 16;
const FUNCTIONS: usize = 60;

pub(super) fn run(daemon: &Daemon, reference: &Reference, rounds: usize, table: &mut Table) {
    dockerfile(daemon, reference, rounds, table);
    features(daemon, reference, rounds, table);
}

fn dockerfile(daemon: &Daemon, reference: &Reference, rounds: usize, table: &mut Table) {
    let mirror = Mirror::start();
    let folder = daemon.project(
        "build",
        r#"{"build": {"dockerfile": "../Dockerfile", "context": ".."}}"#,
    );
    let at = |name: &str| Path::new(&folder).join(name);
    let packages = PACKAGES.join(" ");
    let text = format!(
        "FROM {}\n\
         COPY sources.list /etc/apt/sources.list\n\
         RUN apt-get -qq update && apt-get -qq install --yes --no-install-recommends {packages}\n\
         COPY library /src/library\n\
         RUN cd /src && gcc -O2 -c library/*.c\n\
         COPY main.c /src/main.c\n\
         RUN cd /src && gcc -O2 -o /usr/local/bin/made main.c *.o && made\n",
        development::IMAGE
    );
    std::fs::write(at("Dockerfile"), text).unwrap();
    library(&at("library"));
    let flush = || {
        quiet(
            Command::new("sync")
                .arg("--file-system")
                .arg(daemon.folder()),
        )
    };
    let build = || {
        let on = ["--workspace-folder", folder.as_str()];
        let theirs = time(|| {
            reference.verb("build", &on);
            flush();
        });
        reference.settle();
        let own = time(|| {
            ours(daemon, "build", &on);
            flush();
        });
        [theirs, own]
    };
    let (mut whole, mut edited) = (contenders(), contenders());
    for round in 0..=rounds {
        let sources = format!("# {round}\n{}", mirror.source());
        std::fs::write(at("sources.list"), sources).unwrap();
        main_source(&at("main.c"), &format!("built {round}"));
        flush();
        let nothing = build();
        main_source(&at("main.c"), &format!("edited {round}"));
        let edit = build();
        // The first round warms both.
        if round > 0 {
            for (contender, took) in whole.iter_mut().zip(nothing) {
                contender.add(took);
            }
            for (contender, took) in edited.iter_mut().zip(edit) {
                contender.add(took);
            }
        }
    }
    table.compare("`devcontainer build` of six steps, from nothing", &whole);
    table.compare(
        "`devcontainer build` after one source file was edited",
        &edited,
    );
}

fn library(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for file in 0..SOURCES {
        let mut text = String::from("#include <stdio.h>\n#include <string.h>\n");
        for function in 0..FUNCTIONS {
            writeln!(
                text,
                "int made_{file}_{function}(const char *s) {{ char b[64]; int n = {function};
                 for (size_t i = 0; i < strlen(s); i++) n = n * 31 + (s[i] ^ {file});
                 return snprintf(b, sizeof b, \"%d %s\", n, s) + b[n & 7]; }}"
            )
            .unwrap();
        }
        std::fs::write(folder.join(format!("part{file}.c")), text).unwrap();
    }
}

fn main_source(path: &Path, says: &str) {
    let text = format!(
        "#include <stdio.h>\nint made_0_0(const char *);\n\
         int main(void) {{ printf(\"%s %d\\n\", \"{says}\", made_0_0(\"{says}\")); return 0; }}\n"
    );
    std::fs::write(path, text).unwrap();
}

/// A Feature says which of its runs made the environment it is in.
fn features(daemon: &Daemon, reference: &Reference, rounds: usize, table: &mut Table) {
    let configuration = |note: usize| {
        let image = development::IMAGE;
        serde_json::json!({"image": image, "features": {"./made": {}}, "remoteEnv": {"NOTE": note.to_string()}})
            .to_string()
    };
    let folder = daemon.project("features", &configuration(0));
    let feature = Path::new(&folder).join(".devcontainer/made");
    std::fs::create_dir_all(&feature).unwrap();
    let files = [
        (
            "devcontainer-feature.json",
            r#"{"id": "made", "version": "1.0.0", "name": "Made"}"#,
        ),
        (
            "install.sh",
            "#!/bin/sh\ncat /proc/sys/kernel/random/uuid > /etc/made\n",
        ),
    ];
    for (name, text) in files {
        std::fs::write(feature.join(name), text).unwrap();
    }
    let on = ["--workspace-folder", folder.as_str()];
    let which = [&on[..], &["sh", "-c", "echo $NOTE $(cat /etc/made)"]].concat();
    let mut edited = contenders();
    let mut first = None;
    let mut rebuilt = [0, 0];
    for round in 0..=rounds {
        daemon.project("features", &configuration(round));
        let theirs = time(|| drop(reference.verb("up", &on)));
        reference.settle();
        let own = time(|| drop(ours(daemon, "up", &on)));
        let runs = [reference.verb("exec", &which), ours(daemon, "exec", &which)].map(|said| {
            let (note, run) = said.trim().split_once(' ').unwrap();
            assert_eq!(note, round.to_string());
            run.to_owned()
        });
        let before = first.get_or_insert_with(|| runs.clone());
        for (rebuilt, (run, before)) in rebuilt.iter_mut().zip(runs.iter().zip(before)) {
            *rebuilt += usize::from(run != before);
        }
        reference.down();
        ours(daemon, "down", &on);
        if round > 0 {
            edited[0].add(theirs);
            edited[1].add(own);
        }
    }
    println!(
        "Features installed again after {rounds} edits: {} by the reference, {} by Boatyard\n",
        rebuilt[0], rebuilt[1]
    );
    table.compare(
        "`devcontainer up` after an edit of devcontainer.json, its Features unchanged",
        &edited,
    );
}

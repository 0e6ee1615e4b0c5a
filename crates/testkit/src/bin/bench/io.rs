//! How long an fsync takes while a neighbour floods the disk, and what the flood loses.
//!
//! Daemons, ours and one without the loop for fair shares, and both again with environments whose disks are
//! limited, each with a victim and a neighbour, take turns: the victim alone, the flood alone, both. The victim writes 4 KiB and syncs, every 5 ms; its
//! file and the flood's lie in their environments' root file systems, on the disk that holds the state.
//! The programs are this one, bound into the environments with the host's libraries.
//!
//! Other work of a busy host is measured too: ratios are of a round, and their median is told.

use crate::figures::{Table, percentile, shown};
use boatyard_testkit::Daemon;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// First argument of this program as the victim, and as the neighbour.
const VICTIM: &str = "__syncs";
const NEIGHBOUR: &str = "__floods";

/// One measurement, and how long before it the flood begins: the loop needs seconds to find its way.
const MEASURED: Duration = Duration::from_secs(8);
const LEAD: Duration = Duration::from_secs(4);
const WRITERS: usize = 4;
/// A file of a flood before it begins anew.
const WRAP: u64 = 1 << 30;

/// Whose environments have file systems of their own where the host's has no project quotas.
const LIMITED: &str = r#"{"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
  "metadata": {"name": "limited"}, "spec": {"resources": {"disk": "8Gi"}}}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Every 16 MiB are synced.
    Synced,
    /// Nothing is synced before the end.
    Buffered,
}

/// What this program is inside; None when it is the benchmark.
pub(crate) fn inside(arguments: &[String]) -> Option<()> {
    let seconds = |at: usize| Duration::from_secs(arguments[at].parse().unwrap());
    match arguments.first()?.as_str() {
        VICTIM => syncs(seconds(1)),
        NEIGHBOUR => floods(seconds(1), arguments[2] == "Synced"),
        _ => return None,
    }
    Some(())
}

/// Prints how long each sync took, in microseconds.
fn syncs(long: Duration) {
    let mut file = File::create("/victim").unwrap();
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < long {
        file.write_all(&[7; 4096]).unwrap();
        let asked = Instant::now();
        file.sync_all().unwrap();
        times.push(asked.elapsed().as_micros().to_string());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{}", times.join(" "));
}

/// Prints how many bytes a second it wrote, with what is synced at the end.
fn floods(long: Duration, synced: bool) {
    let began = Instant::now();
    let write = |number: usize| {
        let file = File::create(format!("/flood-{number}")).unwrap();
        let mut piece = vec![7_u8; 1 << 20];
        let (mut at, mut bytes) = (0_u64, 0_u64);
        while began.elapsed() < long {
            piece[..8].copy_from_slice(&bytes.to_ne_bytes());
            file.write_all_at(&piece, at).unwrap();
            (at, bytes) = (at + (1 << 20), bytes + (1 << 20));
            if synced && at % (16 << 20) == 0 {
                file.sync_all().unwrap();
            }
            if at >= WRAP {
                // Written over, it would need no new blocks and no journal.
                file.set_len(0).unwrap();
                at = 0;
            }
        }
        file.sync_all().unwrap();
        bytes
    };
    let bytes: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || write(number)))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    println!(
        "{}",
        bytes * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap()
    );
}

/// One daemon with its two environments.
struct Contender {
    name: &'static str,
    daemon: Daemon,
    /// p50 and p99 of each round, and MB a second.
    alone: Vec<(f64, f64)>,
    beside: Vec<(f64, f64)>,
    flood_alone: Vec<f64>,
    flood_beside: Vec<f64>,
}

pub(crate) fn run(rounds: usize, table: &mut Table) {
    const WITHOUT: &[&str] = &["--no-fair-shares"];
    let mut contenders = [
        ("without the loop", WITHOUT, false),
        ("Boatyard", &[], false),
        ("without the loop, limited disks", WITHOUT, true),
        ("Boatyard, limited disks", &[], true),
    ]
    .map(|(name, arguments, limited)| Contender {
        name,
        daemon: with_environments(arguments, limited),
        alone: Vec::new(),
        beside: Vec::new(),
        flood_alone: Vec::new(),
        flood_beside: Vec::new(),
    });
    for flood in [Flood::Synced, Flood::Buffered] {
        for contender in &mut contenders {
            contender.alone.clear();
            contender.beside.clear();
            contender.flood_alone.clear();
            contender.flood_beside.clear();
        }
        for _ in 0..rounds {
            for contender in &mut contenders {
                contender.round(flood);
                eprintln!(
                    "{flood:?}, {}: alone {:?}, beside {:?} ms; {:.0} MB/s alone, {:.0} beside",
                    contender.name,
                    contender.alone.last().unwrap(),
                    contender.beside.last().unwrap(),
                    contender.flood_alone.last().unwrap(),
                    contender.flood_beside.last().unwrap(),
                );
            }
        }
        rows(flood, &contenders, table);
    }
}

fn with_environments(arguments: &[&str], limited: bool) -> Daemon {
    let daemon = Daemon::start_with(arguments);
    daemon.import_image();
    if limited {
        let class = daemon.folder().join("class.json");
        std::fs::write(&class, LIMITED).unwrap();
        daemon.cli(&["apply", "-f", &class.to_string_lossy()]).ok();
    }
    let program = std::env::current_exe().unwrap();
    let folder = daemon.folder().join("program");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(program, folder.join("bench")).unwrap();
    let configuration = format!(
        r#"{{"image": "test:latest", "mounts": [
  "type=bind,source={},target=/program,readonly", "type=bind,source=/usr/lib,target=/lib,readonly",
  "type=bind,source=/usr/lib64,target=/lib64,readonly"]}}"#,
        folder.display()
    );
    for name in ["victim", "neighbour"] {
        let project = daemon.project(name, &configuration);
        let class: &[&str] = if limited {
            &["--class", "limited"]
        } else {
            &[]
        };
        let up = [&["up", project.as_str(), "--name", name], class].concat();
        daemon.cli(&up).ok();
    }
    daemon
}

impl Contender {
    fn victim(&self) -> (f64, f64) {
        let seconds = MEASURED.as_secs().to_string();
        let said = self
            .daemon
            .cli(&["exec", "victim", "--", "/program/bench", VICTIM, &seconds])
            .ok();
        let times: Vec<f64> = said
            .split_whitespace()
            .map(|micros| micros.parse::<f64>().unwrap() / 1000.0)
            .collect();
        (percentile(&times, 50), percentile(&times, 99))
    }

    /// MB a second, and what was measured beside it.
    fn flood<T>(&self, flood: Flood, long: Duration, beside: impl FnOnce() -> T) -> (f64, T) {
        let seconds = long.as_secs().to_string();
        let kind = format!("{flood:?}");
        let child = self
            .daemon
            .client(&[
                "exec",
                "neighbour",
                "--",
                "/program/bench",
                NEIGHBOUR,
                &seconds,
                &kind,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let measured = beside();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success());
        let rate: f64 = String::from_utf8(said.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        (rate / 1e6, measured)
    }

    fn round(&mut self, flood: Flood) {
        self.alone.push(self.victim());
        let long = LEAD + MEASURED + Duration::from_secs(1);
        self.flood_alone.push(self.flood(flood, long, || ()).0);
        let (rate, beside) = self.flood(flood, long, || {
            std::thread::sleep(LEAD);
            self.victim()
        });
        self.beside.push(beside);
        self.flood_beside.push(rate);
    }
}

const HEADINGS: &str = "| | rounds | alone p50 ms | alone p99 ms | beside p50 ms | beside p99 ms | p99 : alone | flood alone MB/s | beside MB/s | beside : alone |\n|---|---|---|---|---|---|---|---|---|---|";

fn rows(flood: Flood, contenders: &[Contender], table: &mut Table) {
    let median = |values: &[f64]| percentile(values, 50);
    let ratio = |of: &[f64], to: &[f64]| {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        median(&ratios)
    };
    let rows = contenders.iter().map(|contender| {
        let part = |of: &[(f64, f64)]| -> [Vec<f64>; 2] {
            [
                of.iter().map(|of| of.0).collect(),
                of.iter().map(|of| of.1).collect(),
            ]
        };
        let ([alone_p50, alone], [beside_p50, beside]) =
            (part(&contender.alone), part(&contender.beside));
        let millis = |of: &[f64]| shown(Duration::from_secs_f64(median(of) / 1000.0));
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.2} | {:.0} | {:.0} | {:.2} |",
            contender.name,
            contender.alone.len(),
            millis(&alone_p50),
            millis(&alone),
            millis(&beside_p50),
            millis(&beside),
            ratio(&beside, &alone),
            median(&contender.flood_alone),
            median(&contender.flood_beside),
            ratio(&contender.flood_beside, &contender.flood_alone),
        )
    });
    let what = match flood {
        Flood::Synced => "syncs every 16 MiB",
        Flood::Buffered => "leaves its pages to the kernel",
    };
    let title = format!("fsync of 4 KiB beside {WRITERS} writers of a neighbour that {what}");
    table.rows(&title, HEADINGS, rows.collect());
}

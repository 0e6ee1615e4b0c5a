//! Simulated hosts: the real runner over sandboxes that start nothing.
//!
//! Everything of a runner is real (watch, plan, steps, records on disk, status, lease, tunnel) but
//! the process trees: a host says they run, and one socket answers as every agent. [`Hosts`] holds
//! many of them in one process. Used where many runners are wanted and nothing inside environments
//! is: the benchmark's fleet and the tests of servers that are killed under one.

use crate::archive;
use boatyard_image::{Images, Quiet, Reference};
use boatyard_link::client::Endpoint;
use boatyard_runner::{Options, Sandbox, Service};
use boatyard_sandbox::spec::{Id, Spec, User};
use boatyard_sandbox::{Error, Observed, Running};
use boatyard_wire::frame::{HEADER_LEN, Kind, decode_header, encode};
use boatyard_wire::{Reply, Request};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The image of their environments.
pub const IMAGE: &str = "test:latest";

/// Runners of this process; they end when it is dropped, or at [`Hosts::end`].
pub struct Hosts {
    folder: PathBuf,
    images: PathBuf,
    agents: PathBuf,
    shutdown: CancellationToken,
    answering: JoinSet<()>,
    runners: JoinSet<()>,
}

impl Hosts {
    /// None yet. They keep their files in `folder`, beside those of other processes; `name` is this
    /// one's.
    ///
    /// # Panics
    /// When files cannot be made.
    pub async fn open(folder: &Path, name: &str) -> Self {
        let images = folder.join(format!("images-{name}"));
        let archive = images.with_extension("tar");
        archive::write(&archive, IMAGE, &serde_json::json!({}));
        let opened = Images::open(&images, boatyard_image::Options::default()).unwrap();
        let tag = Reference::parse(IMAGE).unwrap();
        opened
            .import(&archive, Some(&tag), Arc::new(Quiet))
            .await
            .unwrap();
        let agents = folder.join(format!("agents-{name}"));
        let mut answering = JoinSet::new();
        answering.spawn(answer_all(UnixListener::bind(&agents).unwrap()));
        Self {
            folder: folder.to_owned(),
            images,
            agents,
            shutdown: CancellationToken::new(),
            answering,
            runners: JoinSet::new(),
        }
    }

    /// Starts the runner of a name.
    ///
    /// # Panics
    /// When files cannot be made.
    pub fn start(&mut self, name: &str, endpoint: Endpoint) {
        let state_dir = self.folder.join(format!("host-{name}"));
        std::fs::create_dir(&state_dir).unwrap();
        std::os::unix::fs::symlink(&self.images, state_dir.join("images")).unwrap();
        let options = Options {
            name: name.to_owned(),
            state_dir,
            endpoint,
            executable: "/proc/self/exe".into(),
            images: boatyard_image::Options::default(),
            host_name_prefix: name.to_owned(),
            first_slot: 0,
            fair_shares: false,
            uplink: boatyard_sandbox::spec::Bandwidth::default(),
            zram: None,
            device_directories: Vec::new(),
            garbage: boatyard_runner::Garbage::default(),
        };
        let host = Host {
            agents: self.agents.clone(),
            running: Mutex::default(),
        };
        let service = Service::open_with(options, Arc::new(host)).unwrap();
        self.runners.spawn(service.run(self.shutdown.clone()));
    }

    /// Ends all of them.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        self.answering.shutdown().await;
        self.runners.shutdown().await;
    }
}

/// A host on which sandboxes run as soon as they are asked for.
struct Host {
    agents: PathBuf,
    running: Mutex<HashSet<String>>,
}

impl Host {
    fn end(&self, id: &Id) {
        self.running.lock().unwrap().remove(id.as_str());
    }
}

impl Sandbox for Host {
    fn start(&self, spec: &Spec) -> Result<Running, Error> {
        std::os::unix::fs::symlink(&self.agents, spec.state.join("agent.sock")).unwrap();
        self.running
            .lock()
            .unwrap()
            .insert(spec.id.as_str().to_owned());
        Ok(Running {
            monitor_pid: Some(std::process::id()),
            init_pid: std::process::id(),
            started_unix_ms: 0,
        })
    }

    fn observe(&self, id: &Id, _state: &Path) -> Result<Observed, Error> {
        if !self.running.lock().unwrap().contains(id.as_str()) {
            return Ok(Observed::Absent);
        }
        Ok(Observed::Running {
            monitor_pid: Some(std::process::id()),
            init_pid: std::process::id(),
            started_unix_ms: 0,
        })
    }

    fn kill(&self, id: &Id, _state: &Path) -> Result<(), Error> {
        self.end(id);
        Ok(())
    }

    fn remove(&self, id: &Id, state: &Path) -> Result<(), Error> {
        self.end(id);
        let _ = std::fs::remove_file(state.join("agent.sock"));
        Ok(())
    }

    fn open_as(&self, _user: User, path: &Path) -> Result<OwnedFd, Error> {
        Ok(std::fs::File::open(path).unwrap().into())
    }

    fn view(&self, _user: User, path: &Path) -> Result<boatyard_sandbox::view::View, Error> {
        unreachable!("nobody here reads {}", path.display())
    }
}

/// Answers as every agent.
async fn answer_all(listener: UnixListener) {
    let mut calls = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        calls.spawn(async move { drop(answer(stream).await) });
        while calls.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let (_, length) = decode_header(header).map_err(std::io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    let mut said = Vec::new();
    let reply = match serde_json::from_slice(&payload)? {
        Request::Info => Reply::Info {
            version: "simulated".to_owned(),
            uptime_seconds: 1,
            processes: 0,
        },
        Request::Exec(_) => {
            let probed = b"boatyard-probe\nPATH=/bin\0boatyard-probe\n";
            encode(Kind::Stdout, probed, &mut said).map_err(std::io::Error::other)?;
            Reply::Exit {
                code: 0,
                signal: None,
            }
        }
        _ => Reply::Done,
    };
    encode(Kind::Reply, &serde_json::to_vec(&reply)?, &mut said).map_err(std::io::Error::other)?;
    stream.write_all(&said).await
}

//! Simulated hosts: the real runner over sandboxes that start nothing.
//!
//! Everything of a runner is real (watch, plan, steps, records on disk, status, lease, tunnel) but
//! the process trees: a [`Host`] says they run, and one socket answers as every agent. A process of
//! its own holds many of them, started by `fleet`; it ends with its standard input.

use boatyard_image::{Images, Quiet, Reference};
use boatyard_link::client::{Address, Endpoint};
use boatyard_runner::{Options, Sandbox, Service};
use boatyard_sandbox::spec::{Id, Spec, User};
use boatyard_sandbox::{Error, Observed, Running};
use boatyard_testkit::archive;
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

/// First argument of such a process; then the folder, the server's socket, the first runner's
/// number and how many.
pub(crate) const ARGUMENT: &str = "simulated-hosts";
/// The image of their environments.
pub(crate) const IMAGE: &str = "test:latest";

/// Name of the runner of a number.
pub(crate) fn name(number: usize) -> String {
    format!("simulated-{number}")
}

/// Where the token of a runner is.
pub(crate) fn token(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("token-{number}"))
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
async fn agents(listener: UnixListener) {
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

/// The process of some hosts, with the arguments after [`ARGUMENT`].
pub(crate) fn main(arguments: &[String]) {
    let [folder, socket, first, count] = arguments else {
        panic!("{ARGUMENT} FOLDER SOCKET FIRST COUNT");
    };
    let (folder, first): (&Path, usize) = (folder.as_ref(), first.parse().unwrap());
    let numbers = first..first + count.parse::<usize>().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let images = folder.join(format!("images-{first}"));
        let archive = images.with_extension("tar");
        archive::write(&archive, IMAGE, &serde_json::json!({}));
        let opened = Images::open(&images, boatyard_image::Options::default()).unwrap();
        let tag = Reference::parse(IMAGE).unwrap();
        opened
            .import(&archive, Some(&tag), Arc::new(Quiet))
            .await
            .unwrap();
        let sockets = folder.join(format!("agents-{first}"));
        let mut tasks = JoinSet::new();
        tasks.spawn(agents(UnixListener::bind(&sockets).unwrap()));
        let shutdown = CancellationToken::new();
        let mut runners = JoinSet::new();
        for number in numbers {
            let state_dir = folder.join(format!("host-{number}"));
            std::fs::create_dir(&state_dir).unwrap();
            std::os::unix::fs::symlink(&images, state_dir.join("images")).unwrap();
            let options = Options {
                name: name(number),
                state_dir,
                endpoint: Endpoint {
                    address: Address::Unix(socket.into()),
                    token: Some(std::fs::read_to_string(token(folder, number)).unwrap()),
                },
                executable: "/proc/self/exe".into(),
                images: boatyard_image::Options::default(),
                host_name_prefix: name(number),
                first_slot: 0,
            };
            let host = Host {
                agents: sockets.clone(),
                running: Mutex::default(),
            };
            let service = Service::open_with(options, Arc::new(host)).unwrap();
            runners.spawn(service.run(shutdown.clone()));
        }
        // Its end is the end of whoever started this process.
        let _ = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        })
        .await;
        shutdown.cancel();
        tasks.shutdown().await;
        runners.shutdown().await;
    });
}

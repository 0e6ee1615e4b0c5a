//! A process of simulated hosts (`boatyard_testkit::simulated`), of which `fleet` starts some.
//!
//! It ends with its standard input.

use boatyard_link::client::{Address, Endpoint};
use boatyard_testkit::simulated::Hosts;
use std::path::{Path, PathBuf};

/// First argument of such a process; then the folder, the server's socket, the first runner's
/// number and how many.
pub(crate) const ARGUMENT: &str = "simulated-hosts";

/// Name of the runner of a number.
pub(crate) fn name(number: usize) -> String {
    format!("simulated-{number}")
}

/// Where the token of a runner is.
pub(crate) fn token(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("token-{number}"))
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
        let mut hosts = Hosts::open(folder, &first.to_string()).await;
        for number in numbers {
            let endpoint = Endpoint {
                address: Address::Unix(socket.into()),
                token: Some(
                    std::fs::read_to_string(token(folder, number))
                        .unwrap()
                        .into(),
                ),
            };
            hosts.start(&name(number), endpoint);
        }
        // Its end is the end of whoever started this process.
        let _ = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        })
        .await;
        hosts.end().await;
    });
}

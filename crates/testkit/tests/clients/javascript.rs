//! `@kubernetes/client-node`: requests and informers. What it does is in the script.

use crate::place::Place;
use crate::tools;
use std::process::Command;

#[test]
fn an_informer_outlives_a_restart_and_forgotten_history() {
    let mut place = Place::start();
    let client = tools::tool("javascript/node_modules/@kubernetes/client-node/dist/index.js");
    let mut command = Command::new("node");
    command
        .arg(tools::beside("javascript/informer.mjs"))
        .env("CLIENT", client)
        .env("KUBECONFIG", place.kubeconfig());
    tools::converse(&mut command, |word| match word {
        "restart" => {
            place.server.kill();
            place.server.again();
        }
        "forget" => place.forgets_history(),
        word => panic!("{word}"),
    });
}

//! schemathesis: requests made from the published OpenAPI, answers held against it.

use crate::place::Place;
use crate::tools;
use std::process::Command;

/// Makes requests from the document of one group version, with a fixed seed.
fn conforms(document: &str) {
    let place = Place::start();
    let (token, _) = place.server.credentials();
    let base = format!("https://{}", place.server.address());
    let mut command = Command::new(tools::tool("python/bin/python"));
    command
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{base}/openapi/v3/{document}"))
        .args(["--url", &base])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .arg("--tls-verify")
        .arg(place.server.state().join("ca.crt"))
        // A watch is an answer without end, a stream no answer at all.
        .args(["--exclude-path-regex", "/(watch|connect|log|tunnel|token)(/|$)"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
        .args(["--phases", "examples,fuzzing", "--max-examples", "4", "--seed", "1"])
        .args(["--generation-deterministic", "--no-shrink"])
        // One worker: Python 3.11 counts the depth of syntax trees for all threads together, and
        // fails when two of them read one.
        .args(["--suppress-health-check", "all", "--max-time", "15", "--workers", "1"])
        .args(["--request-timeout", "10", "--warnings", "off", "--no-color"])
        .env("HOME", place.folder())
        .current_dir(place.folder());
    tools::run(&mut command, "").ok();
}

#[test]
fn boatyards_kinds_answer_as_their_openapi_says() {
    conforms("apis/boatyard.dev/v1");
}

#[test]
fn core_kinds_answer_as_their_openapi_says() {
    conforms("api/v1");
}

//! The host's part of the network: forwarding and the firewall, prepared once per runner.
//!
//! One static table, replaced in one transaction by `nft -f -`, matches the interfaces' prefix:
//! masquerading outwards, nothing between sandboxes, nothing to the host's own services, nothing
//! to link-local (metadata) addresses, no forged source. Where another firewall drops forwarded
//! packets by policy (dockerd, ufw), accepting rules for our interfaces are put first in it.
//!
//! What was changed is recorded in `<state_dir>/network.json` before it is changed, and undone by
//! [`teardown`]. Preparing twice is preparing once.

use crate::error::Error;
use crate::record;
use crate::sandboxes::Options;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::{Command, Stdio};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const RECORD: &str = "network.json";

/// What the host was before.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    /// ip_forward was switched on by us.
    forward_was_off: bool,
    /// Rules put into the iptables FORWARD chain.
    iptables: bool,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Host {
        what,
        detail: error.to_string(),
    }
}

/// Makes the host ready for routed sandboxes.
pub(crate) fn prepare(options: &Options) -> Result<(), Error> {
    let recording = failed("record what is changed");
    std::fs::create_dir_all(&options.state_dir).map_err(&recording)?;
    let directory = rustix::fs::open(
        &options.state_dir,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| recording(error.into()))?;
    let mut before: Before = record::read(&options.state_dir, RECORD)
        .map_err(&recording)?
        .unwrap_or_default();
    let forward = std::fs::read_to_string(FORWARD).map_err(failed("read ip_forward"))?;
    before.forward_was_off |= forward.trim() == "0";
    before.iptables |= drops_by_policy();
    record::write(&directory, RECORD, &before).map_err(&recording)?;
    nft(&rules(&options.table, &options.interface_prefix))?;
    if before.iptables {
        for rule in passes(&options.interface_prefix) {
            if !iptables("-C", &rule) && !iptables("-I", &rule) {
                return Err(Error::Host {
                    what: "let sandboxes pass the host's firewall",
                    detail: "iptables refused a rule in FORWARD".to_owned(),
                });
            }
        }
    }
    if forward.trim() == "0" {
        std::fs::write(FORWARD, "1").map_err(failed("switch ip_forward on"))?;
    }
    Ok(())
}

/// Undoes [`prepare`].
pub(crate) fn teardown(options: &Options) -> Result<(), Error> {
    let before: Option<Before> =
        record::read(&options.state_dir, RECORD).map_err(failed("read what was changed"))?;
    let Some(before) = before else {
        return Ok(());
    };
    let table = &options.table;
    nft(&format!(
        "table inet {table} {{}}\ndelete table inet {table}\n"
    ))?;
    if before.iptables {
        for rule in passes(&options.interface_prefix) {
            while iptables("-C", &rule) && iptables("-D", &rule) {}
        }
    }
    if before.forward_was_off {
        std::fs::write(FORWARD, "0").map_err(failed("switch ip_forward off"))?;
    }
    std::fs::remove_file(options.state_dir.join(RECORD)).map_err(failed("forget what was changed"))
}

/// The table. `fwd` is a keyword of nft, so no chain bears that name.
fn rules(table: &str, prefix: &str) -> String {
    let ours = format!("\"{prefix}-*\"");
    format!(
        "table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  chain forwarded {{
    type filter hook forward priority filter - 5; policy accept;
    iifname {ours} jump leaving
    oifname {ours} ct state established,related accept
    oifname {ours} drop
  }}
  chain leaving {{
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    oifname {ours} drop
    ip daddr {{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16 }} drop
  }}
  chain arriving {{
    type filter hook input priority filter - 5; policy accept;
    iifname {ours} ct state established,related accept
    iifname {ours} drop
  }}
  chain outward {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname {ours} oifname != {ours} masquerade
  }}
}}
"
    )
}

fn nft(text: &str) -> Result<(), Error> {
    let refused = |detail: String| Error::Host {
        what: "load the firewall by nft (install it: apt-get install nftables)",
        detail,
    };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| refused(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(text.as_bytes())
            .map_err(|error| refused(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

/// Whether the iptables FORWARD chain drops what no rule accepts.
fn drops_by_policy() -> bool {
    Command::new("iptables")
        .args(["-w", "-S", "FORWARD"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(|line| line == "-P FORWARD DROP")
        })
}

/// The rules that let our traffic pass; our own table has judged it already.
fn passes(prefix: &str) -> [Vec<String>; 2] {
    let ours = format!("{prefix}-+");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        words(&format!("-i {ours} -j ACCEPT")),
        words(&format!(
            "-o {ours} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )),
    ]
}

fn iptables(how: &str, rule: &[String]) -> bool {
    Command::new("iptables")
        .args(["-w", how, "FORWARD"])
        .args(rule)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

//! The graph of dependencies as a Mermaid flowchart.

use super::order::Edges;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A node for each requested Feature, an arrow for each dependency, dotted for soft ones.
pub(super) fn mermaid(graph: &Edges) -> String {
    let mut text = String::from("flowchart\n");
    for root in graph
        .accepted
        .iter()
        .filter(|index| graph.nodes[**index].direct)
    {
        let _ = writeln!(text, "{}", node(graph, *root));
        let mut seen = BTreeSet::new();
        let mut stack = vec![*root];
        while let Some(index) = stack.pop() {
            if !seen.insert(index) {
                continue;
            }
            for other in graph.before(index) {
                let hard = graph.nodes[index]
                    .depends_on
                    .iter()
                    .any(|dependency| graph.nodes[*dependency].equals(&graph.nodes[other]));
                let arrow = if hard { "-->" } else { "-.->" };
                let _ = writeln!(
                    text,
                    "{} {arrow} {}",
                    node(graph, index),
                    node(graph, other)
                );
                stack.push(other);
            }
        }
    }
    text
}

fn node(graph: &Edges, index: usize) -> String {
    let node = &graph.nodes[index];
    let id = crate::config::shown(&node.requested.id);
    let digest = Sha256::digest(format!("{index} {id}"));
    let names: Vec<&str> = node
        .found
        .iter()
        .flat_map(|found| found.metadata.names())
        .collect();
    let aliases = match names.is_empty() {
        true => String::new(),
        false => format!("<br>aliases: {}", crate::config::shown(&names.join(", "))),
    };
    format!(
        "{:02x}{:02x}{:02x}[{id}<br/><{}>{aliases}]",
        digest[0], digest[1], digest[2], node.priority
    )
}

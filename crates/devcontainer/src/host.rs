//! `hostRequirements`: the least a host must have. Matching them against classes is the server's.

use crate::config::Reader;
use crate::error::Error;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};

/// The least a host must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRequirements {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<u64>,
    /// A GPU.
    #[serde(default, skip_serializing_if = "Gpu::is_no")]
    pub gpu: Gpu,
}

/// Whether a GPU is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Gpu {
    /// It is not.
    #[default]
    No,
    /// It is used where there is one.
    Optional,
    /// Nothing goes without.
    Required,
}

impl Gpu {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

impl HostRequirements {
    /// The maximum of each.
    pub(crate) fn raise(&mut self, other: &HostRequirements) {
        self.cpus = self.cpus.max(other.cpus);
        self.memory = self.memory.max(other.memory);
        self.storage = self.storage.max(other.storage);
        self.gpu = self.gpu.max(other.gpu);
    }
}

pub(crate) fn read(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<HostRequirements, Error> {
    let mut wanted = HostRequirements::default();
    for entry in reader.object(path, node)? {
        let path = format!("{path}.{}", entry.key);
        match entry.key.as_str() {
            "cpus" => wanted.cpus = Some(count(reader, &path, &entry.node)?),
            "memory" => wanted.memory = Some(bytes(reader, &path, &entry.node)?),
            "storage" => wanted.storage = Some(bytes(reader, &path, &entry.node)?),
            "gpu" => {
                wanted.gpu = match &entry.node.value {
                    Value::Bool(false) => Gpu::No,
                    Value::Bool(true) | Value::Object(_) => Gpu::Required,
                    Value::String(text) if text == "optional" => Gpu::Optional,
                    _ => {
                        return Err(reader.wrong(
                            &path,
                            &entry.node,
                            "a boolean, \"optional\" or an object",
                        ));
                    }
                }
            }
            _ => reader.unknown(entry, &path, &["cpus", "memory", "storage", "gpu"]),
        }
    }
    Ok(wanted)
}

fn count(reader: &Reader<'_>, path: &str, node: &Node) -> Result<u64, Error> {
    match &node.value {
        Value::Number(number) => number
            .as_u64()
            .filter(|cpus| *cpus > 0)
            .ok_or_else(|| reader.invalid(path, node, "must be a whole number above zero")),
        _ => Err(reader.wrong(path, node, "a number")),
    }
}

/// `8gb`, `512mb`, or bytes; powers of 1024, as the reference has it.
fn bytes(reader: &Reader<'_>, path: &str, node: &Node) -> Result<u64, Error> {
    let text = match &node.value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(reader.wrong(path, node, "a string such as \"8gb\"")),
    };
    size(&text).ok_or_else(|| {
        reader.invalid(path, node, &format!("is {text:?}, which is no size; write a number with kb, mb, gb or tb, such as \"8gb\""))
    })
}

/// A size in bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

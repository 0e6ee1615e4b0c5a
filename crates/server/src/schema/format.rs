//! Formats of values that schemas name, where this server knows them; others say nothing.

use serde_json::Value;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Int32,
    Int64,
    Unsigned(u64),
    Uuid,
    Byte,
    Ip { four: bool, six: bool },
}

impl Format {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "date-time" => Self::DateTime,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::Unsigned(u8::MAX.into()),
            "uint16" => Self::Unsigned(u16::MAX.into()),
            "uint32" => Self::Unsigned(u32::MAX.into()),
            "uint64" => Self::Unsigned(u64::MAX),
            "uuid" => Self::Uuid,
            "byte" => Self::Byte,
            "ipv4" => Self::Ip {
                four: true,
                six: false,
            },
            "ipv6" => Self::Ip {
                four: false,
                six: true,
            },
            "ip" => Self::Ip {
                four: true,
                six: true,
            },
            _ => return None,
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::DateTime => "date-time",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Unsigned(0xff) => "uint8",
            Self::Unsigned(0xffff) => "uint16",
            Self::Unsigned(0xffff_ffff) => "uint32",
            Self::Unsigned(_) => "uint64",
            Self::Uuid => "uuid",
            Self::Byte => "base64",
            Self::Ip { six: false, .. } => "ipv4",
            Self::Ip { four: false, .. } => "ipv6",
            Self::Ip { .. } => "ip",
        }
    }

    /// Whether a value of the right type has it.
    pub(super) fn fits(self, value: &Value) -> bool {
        use base64::Engine as _;
        match (self, value) {
            (Self::DateTime, Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
            (Self::Int32, Value::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Self::Int64, Value::Number(number)) => number.is_i64(),
            (Self::Unsigned(most), Value::Number(number)) => {
                number.as_u64().is_some_and(|number| number <= most)
            }
            (Self::Uuid, Value::String(text)) => uuid::Uuid::try_parse(text).is_ok(),
            (Self::Byte, Value::String(text)) => base64::engine::general_purpose::STANDARD
                .decode(text)
                .is_ok(),
            (Self::Ip { four, six }, Value::String(text)) => text
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| (address.is_ipv4() && four) || (address.is_ipv6() && six)),
            _ => true,
        }
    }
}

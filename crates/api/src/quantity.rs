//! Quantities in Kubernetes's grammar, as numbers: `500m`, `2`, `4Gi`, `1e3`.
//!
//! Source: the Kubernetes API's `resource.Quantity`. Only non-negative values make sense here.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity; write for example 500m, 2 or 4Gi")]
pub struct BadQuantity(String);

const SUFFIXES: [(&str, i32, u32); 12] = [
    ("Ki", 0, 10),
    ("Mi", 0, 20),
    ("Gi", 0, 30),
    ("Ti", 0, 40),
    ("Pi", 0, 50),
    ("m", -3, 0),
    ("k", 3, 0),
    ("M", 6, 0),
    ("G", 9, 0),
    ("T", 12, 0),
    ("P", 15, 0),
    ("", 0, 0),
];

/// The value in thousandths, rounded up.
fn thousandths(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity(text.to_owned());
    let (number, tens, twos) = SUFFIXES
        .iter()
        .find_map(|(suffix, tens, twos)| {
            text.strip_suffix(suffix)
                .map(|number| (number, *tens, *twos))
        })
        .ok_or_else(bad)?;
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (number, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 24 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let mut value: u128 = digits.parse().map_err(|_| bad())?;
    value = value
        .checked_shl(twos)
        .filter(|_| value.leading_zeros() > twos)
        .ok_or_else(bad)?;
    let fraction = i32::try_from(fraction.len()).map_err(|_| bad())?;
    let power = exponent.saturating_add(tens + 3 - fraction);
    let scale = 10_u128.checked_pow(power.unsigned_abs()).ok_or_else(bad)?;
    let scaled = if power >= 0 {
        value.checked_mul(scale).ok_or_else(bad)?
    } else {
        value.div_ceil(scale)
    };
    u64::try_from(scaled).map_err(|_| bad())
}

/// Processors in thousandths of one.
///
/// # Errors
/// When it is no quantity.
pub fn cpu_millis(quantity: &Quantity) -> Result<u64, BadQuantity> {
    thousandths(&quantity.0)
}

/// Bytes, rounded up.
///
/// # Errors
/// When it is no quantity.
pub fn bytes(quantity: &Quantity) -> Result<u64, BadQuantity> {
    // Bytes beyond 2^54 would not fit in thousandths; nobody has that much.
    thousandths(&quantity.0).map(|thousandths| thousandths.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    //! The grammar by table.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let millis = |text: &str| cpu_millis(&Quantity(text.into()));
        for (text, value) in [
            ("500m", 500),
            ("2", 2000),
            ("0.1", 100),
            ("1.5", 1500),
            ("1e1", 10_000),
            ("0", 0),
            ("1m", 1),
        ] {
            assert_eq!(millis(text), Ok(value), "{text}");
        }
        for (text, value) in [
            ("4Gi", 4 << 30),
            ("64Mi", 64 << 20),
            ("1k", 1000),
            ("128M", 128_000_000),
            ("1.5Gi", 3 << 29),
            ("1", 1),
        ] {
            assert_eq!(bytes(&Quantity(text.into())), Ok(value), "{text}");
        }
        for text in [
            "",
            "Gi",
            "-1",
            "1x",
            "1..2",
            "99999999999999999999999999",
            "1e99",
        ] {
            assert!(millis(text).is_err(), "{text}");
        }
    }
}

//! Sizes and times as the command line takes them.

use std::time::Duration;

/// Bytes, as the API writes sizes: `10Gi`, `500M`, `0`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    quantity(text).map_err(|error| format!("no size: {error}; write 10Gi, 500M or 0"))
}

fn quantity(text: &str) -> Result<u64, String> {
    let quantity = serde_json::from_value(text.into()).map_err(|error| error.to_string())?;
    boatyard_api::quantity::bytes(&quantity).map_err(|error| error.to_string())
}

/// Bits a second, as classes write them: `100M`, `1G`.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64_000;
    let wrong = "no rate; write bits a second, as 50M or 1G";
    let bits = quantity(text).map_err(|_| wrong.to_owned())?;
    if bits < LEAST {
        // Such as 50m, which is the twentieth part of a bit.
        return Err("less than 64k bits a second; write it as 50M or 1G".to_owned());
    }
    Ok(bits)
}

/// A time: a whole number and `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "no time; write a number with s, m, h or d, as 90s or 7d".to_owned();
    let at = text
        .find(|character: char| !character.is_ascii_digit())
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number.parse().map_err(|_| wrong())?)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests;

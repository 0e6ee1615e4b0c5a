//! Small values with a grammar of their own: durations, sizes, ports, signals, modes, paths,
//! platforms and names of images.
//!
//! Each function says in its error what is wrong, as a clause that follows the value.

/// A duration as Go writes them, `1h30m` or `500ms`, in nanoseconds: 0, or a millisecond at least.
pub(super) fn duration(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "is no duration; write it as 30s, 1m30s or 500ms";
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(FORM);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, behind) = rest.split_at(digits(rest));
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => behind.split_at(digits(behind)),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(FORM);
        }
        let units: [(&str, u64); 8] = [
            ("ns", 1),
            ("us", 1_000),
            ("\u{b5}s", 1_000),
            ("\u{3bc}s", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let unit_end = behind
            .find(|letter: char| letter == '.' || letter.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(FORM);
        };
        let whole: u64 = match whole {
            "" => 0,
            whole => whole.parse().map_err(|_| "is too long")?,
        };
        let mut parts = 0;
        let mut part = *scale;
        for digit in fraction.bytes() {
            part /= 10;
            parts += u64::from(digit - b'0') * part;
        }
        total = whole
            .checked_mul(*scale)
            .and_then(|nanoseconds| nanoseconds.checked_add(parts))
            .and_then(|nanoseconds| nanoseconds.checked_add(total))
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or("is too long")?;
        rest = behind;
    }
    if total != 0 && total < 1_000_000 {
        return Err("is less than a millisecond");
    }
    Ok(total)
}

/// A size as Docker writes them, `64m` or `1.5GiB`, in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim_start();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 1_u64 << power;
    let mut bytes = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if !fraction.is_empty() {
        let tens = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / tens;
        bytes = bytes.checked_add(u64::try_from(part).ok()?)?;
    }
    i64::try_from(bytes).is_ok().then_some(bytes)
}

/// `EXPOSE`'s ports: first, last and protocol of `8000-8010/udp`.
pub(super) fn ports(text: &str) -> Result<(u16, u16, &'static str), &'static str> {
    // An address and a port of the host's in front mean nothing, and are let through.
    let port = text.rsplit(':').next().unwrap_or(text);
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = match protocol.to_lowercase().as_str() {
        "tcp" | "" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err("has another protocol than tcp, udp or sctp"),
    };
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| "is no port; write it as 80, 80/tcp or 8000-8010")
    };
    let (first, last) = match port.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(port)?, number(port)?),
    };
    if last < first {
        return Err("ends before it begins");
    }
    Ok((first, last, protocol))
}

/// Whether there is such a signal: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |first: &str, sign: char, most: u8| {
        name.strip_prefix(first)
            .and_then(|rest| rest.strip_prefix(sign))
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|number| (1..=most).contains(&number))
    };
    NAMES.contains(&name) || realtime("RTMIN", '+', 15) || realtime("RTMAX", '-', 14)
}

/// Whether a `--chmod` is octal up to 7777, or symbolic as in chmod(1).
pub(super) fn is_mode(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).is_ok_and(|bits| bits <= 0o7777);
    }
    text.split(',').all(|clause| {
        let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut parts = actions.split(['+', '-', '=']);
        // Nothing stands before the first sign, and something after each.
        parts.next() == Some("")
            && actions.contains(['+', '-', '='])
            && parts.all(|letters| {
                let copied = letters.len() == 1 && "ugo".contains(letters);
                copied || letters.bytes().all(|letter| b"rwxXst".contains(&letter))
            })
    })
}

/// An absolute path without `.`, `..` and double slashes; `..` ends at the root.
pub(super) fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let begin = if path.starts_with('/') { "" } else { directory };
    for part in begin.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// A platform as `os/architecture/variant`, with the usual other names of architectures.
pub(super) fn platform(text: &str) -> Option<String> {
    let mut parts = text.split('/');
    let (os, architecture, variant) = (parts.next()?, parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (os, architecture) = match architecture {
        Some(architecture) => (os, architecture),
        None => ("linux", os),
    };
    let os = os.split('(').next().unwrap_or(os).to_lowercase();
    let architecture = architecture.to_lowercase();
    let (architecture, implied) = match architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" | "i686" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "arm" => ("arm", Some("v7")),
        other => (other, None),
    };
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let variant = match (architecture, variant) {
        ("amd64", Some("v1")) | ("arm64", Some("v8" | "8")) => None,
        (_, variant) => variant.or(implied),
    };
    if !word(&os) || !word(architecture) || !variant.is_none_or(word) {
        return None;
    }
    Some(match variant {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    })
}

/// What is wrong with the name of an image, as far as that is seen without asking for it.
pub(super) fn image_fault(name: &str) -> Option<&'static str> {
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let (host, repository) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("", path),
    };
    let allowed = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if repository.is_empty() || repository.split('/').any(str::is_empty) {
        return Some("names no image");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("has capital letters, which images' names have not, and is no stage");
    }
    if !allowed(repository, b"._-/") || !allowed(host, b".-:[]") {
        return Some("is no image's name");
    }
    if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !allowed(tag, b"._-")) {
        return Some("has no proper tag");
    }
    let digest_fault = |digest: &str| match digest.split_once(':') {
        Some((algorithm, hex)) => algorithm.is_empty() || hex.len() < 32 || !allowed(hex, b""),
        None => true,
    };
    if digest.is_some_and(digest_fault) {
        return Some("has no proper digest");
    }
    None
}

/// An image's name as people shorten it, so that two ways of writing one are equal.
pub(super) fn familiar(name: &str) -> &str {
    let name = name
        .strip_prefix("docker.io/")
        .or(name.strip_prefix("index.docker.io/"))
        .unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

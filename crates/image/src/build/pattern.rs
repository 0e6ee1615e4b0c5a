//! Patterns of paths: Go's `filepath.Match` for sources, with `**` for what is excluded.
//!
//! Pure. A pattern is matched component by component, which bounds its cost.

/// Whether there is anything to expand in it.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether one name matches one component of a pattern. A malformed pattern matches nothing.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go back to: after the last star, and the name it began at.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some((p + 1, character(name, n))),
            Some(b'[') => match class(pattern, p, name[n]) {
                Some((end, true)) => Some((end, n + 1)),
                _ => None,
            },
            Some(b'\\') if p + 1 < pattern.len() => {
                (pattern[p + 1] == name[n]).then_some((p + 2, n + 1))
            }
            Some(byte) => (*byte == name[n]).then_some((p + 1, n + 1)),
            None => None,
        };
        match (step, star) {
            (Some((next, read)), _) => (p, n) = (next, read),
            (None, Some((after, began))) => {
                star = Some((after, began + 1));
                (p, n) = (after, began + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The end of the UTF-8 character at `at`.
fn character(name: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < name.len() && name[end] & 0xc0 == 0x80 {
        end += 1;
    }
    end
}

/// Where a class ends, and whether it has the byte; None when it does not end.
fn class(pattern: &[u8], at: usize, byte: u8) -> Option<(usize, bool)> {
    let mut p = at + 1;
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut found = false;
    let mut first = true;
    let read = |p: &mut usize| -> Option<u8> {
        if pattern.get(*p) == Some(&b'\\') {
            *p += 1;
        }
        let byte = *pattern.get(*p)?;
        *p += 1;
        Some(byte)
    };
    loop {
        if !first && pattern.get(p) == Some(&b']') {
            return Some((p + 1, found != negated));
        }
        first = false;
        let low = read(&mut p)?;
        let high = if pattern.get(p) == Some(&b'-') && pattern.get(p + 1) != Some(&b']') {
            p += 1;
            read(&mut p)?
        } else {
            low
        };
        found |= (low..=high).contains(&byte);
    }
}

/// Whether a path, or a folder it lies in, matches a pattern that may have `**`.
pub(super) fn excludes(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = parts(pattern);
    let path = parts(path);
    (1..=path.len()).any(|length| whole(&pattern, &path[..length]))
}

pub(super) fn parts(path: &str) -> Vec<&str> {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect()
}

fn whole(pattern: &[&str], path: &[&str]) -> bool {
    // Row by row over the pattern: which prefixes of the path are matched so far.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if *part == "**" {
            let mut any = false;
            for (at, was) in reached.iter().enumerate() {
                any |= *was;
                next[at] = any;
            }
        } else {
            for at in 0..path.len() {
                next[at + 1] = reached[at] && matches(part.as_bytes(), path[at].as_bytes());
            }
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests;

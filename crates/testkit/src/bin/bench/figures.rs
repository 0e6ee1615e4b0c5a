//! Times of contenders, and the table they make.
//!
//! A ratio is of medians; beside it stands the spread of the ratios of single rounds, which is
//! what a reader on another host should expect. Pure arithmetic.

use std::fmt;
use std::time::{Duration, Instant};

/// How long `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// One contender's times, by round.
pub(crate) struct Contender {
    name: &'static str,
    times: Vec<Duration>,
}

impl Contender {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            times: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.times.push(time);
    }
}

/// The value below which `percent` of them lie.
fn percentile<T: Copy + PartialOrd>(values: &[T], percent: usize) -> T {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[(values.len() - 1) * percent / 100]
}

/// Rows under their headings.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, Vec<String>)>);

impl Table {
    /// Adds a comparison; the first contender is the peer that the others are measured by.
    pub(crate) fn compare(&mut self, title: &str, contenders: &[Contender]) {
        let peer = &contenders[0].times;
        let rows = contenders.iter().map(|contender| {
            let times = &contender.times;
            let median = percentile(times, 50).as_secs_f64();
            let ratios: Vec<f64> = times
                .iter()
                .zip(peer)
                .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
                .collect();
            format!(
                "| {} | {} | {} | {} | {} | {:.3} | {:.3}–{:.3} |",
                contender.name,
                times.len(),
                shown(percentile(times, 50)),
                shown(percentile(times, 99)),
                shown(percentile(times, 0)),
                median / percentile(peer, 50).as_secs_f64(),
                percentile(&ratios, 10),
                percentile(&ratios, 90),
            )
        });
        self.0.push((title.to_owned(), rows.collect()));
    }
}

/// In milliseconds, with three digits that matter.
fn shown(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    let digits = match milliseconds {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{milliseconds:.digits$}")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, rows) in &self.0 {
            writeln!(f, "### {title}\n")?;
            writeln!(
                f,
                "| | n | p50 ms | p99 ms | least ms | ratio of p50 | ratios, p10–p90 |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|")?;
            for row in rows {
                writeln!(f, "{row}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

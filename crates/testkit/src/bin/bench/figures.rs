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
pub(crate) fn percentile<T: Copy + PartialOrd>(values: &[T], percent: usize) -> T {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[(values.len() - 1) * percent / 100]
}

/// Requests of one contender in one round.
#[derive(Default)]
pub(crate) struct Load {
    /// How long each took.
    pub(crate) times: Vec<Duration>,
    /// From the first to the last.
    pub(crate) span: Duration,
    /// Processor time of the contender's process meanwhile.
    pub(crate) cpu: Duration,
}

impl Load {
    fn rate(&self) -> f64 {
        count(self.times.len()) / self.span.as_secs_f64()
    }
}

/// One contender's loads, by round.
pub(crate) struct Loaded {
    pub(crate) name: String,
    loads: Vec<Load>,
}

impl Loaded {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            loads: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, load: Load) {
        self.loads.push(load);
    }
}

/// Exact up to 2^32, which no count here reaches.
fn count(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

/// Rows under their headings.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, &'static str, Vec<String>)>);

const TIMES: &str = "| | n | p50 ms | p99 ms | least ms | ratio of p50 | ratios, p10–p90 |\n|---|---|---|---|---|---|---|";
const RATES: &str = "| | n | a second | p50 ms | p99 ms | CPU µs each | ratio of rate | ratios, p10–p90 |\n|---|---|---|---|---|---|---|---|";

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
        self.0.push((title.to_owned(), TIMES, rows.collect()));
    }

    /// Adds a comparison of loads; the first contender is the peer.
    pub(crate) fn rates(&mut self, title: &str, contenders: &[Loaded]) {
        let rates = |loaded: &Loaded| loaded.loads.iter().map(Load::rate).collect::<Vec<_>>();
        let peer = rates(&contenders[0]);
        let rows = contenders.iter().map(|contender| {
            let loads = &contender.loads;
            let times: Vec<Duration> = loads.iter().flat_map(|load| &load.times).copied().collect();
            let cpu: Duration = loads.iter().map(|load| load.cpu).sum();
            let own = rates(contender);
            let ratios: Vec<f64> = own
                .iter()
                .zip(&peer)
                .map(|(ours, theirs)| ours / theirs)
                .collect();
            format!(
                "| {} | {} | {:.0} | {} | {} | {:.0} | {:.3} | {:.3}–{:.3} |",
                contender.name,
                times.len(),
                percentile(&own, 50),
                shown(percentile(&times, 50)),
                shown(percentile(&times, 99)),
                cpu.as_secs_f64() * 1e6 / count(times.len()),
                percentile(&own, 50) / percentile(&peer, 50),
                percentile(&ratios, 10),
                percentile(&ratios, 90),
            )
        });
        self.0.push((title.to_owned(), RATES, rows.collect()));
    }

    /// Adds rows as they are; `headings` with the line beneath them.
    pub(crate) fn rows(&mut self, title: &str, headings: &'static str, rows: Vec<String>) {
        self.0.push((title.to_owned(), headings, rows));
    }
}

/// In milliseconds, with three digits that matter.
pub(crate) fn shown(time: Duration) -> String {
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
        for (title, headings, rows) in &self.0 {
            writeln!(f, "### {title}\n\n{headings}")?;
            for row in rows {
                writeln!(f, "{row}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

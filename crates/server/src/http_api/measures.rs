//! What is counted of requests and of this process, for `/metrics`.
//!
//! Labels are words of the program: verbs, plurals of registered kinds, codes. A path that names
//! nothing counts as `other`, so that no client makes the text grow. Streams count while they last
//! and are in no histogram of latencies.

use super::answers::Body;
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::request::{Query, parse_path};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::time::Instant;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct About {
    verb: &'static str,
    group: String,
    resource: String,
    subresource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: String,
    resource: String,
    subresource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mutating {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    group: String,
    resource: String,
}

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Measures {
    requests: Family<Answered, Counter>,
    seconds: Family<About, Histogram, fn() -> Histogram>,
    in_flight: Family<Mutating, Gauge>,
    watches: Family<Watched, Gauge>,
    revision: Gauge,
}

/// From half a millisecond, doubled, to half a minute.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

/// One more of something, until it is dropped.
struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request under way.
pub(super) struct Started {
    about: About,
    at: Instant,
    held: Held,
}

impl Measures {
    /// Registers everything counted here.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let measures = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            in_flight: Family::default(),
            watches: Family::default(),
            revision: Gauge::default(),
        };
        let m = &measures;
        metrics.register(|registry| {
            registry.register("http_requests", "Requests answered", m.requests.clone());
            registry.register(
                "http_request_seconds",
                "How long requests took that are no streams",
                m.seconds.clone(),
            );
            registry.register(
                "http_requests_in_flight",
                "Requests being answered",
                m.in_flight.clone(),
            );
            registry.register("watches", "Open watches", m.watches.clone());
            registry.register(
                "store_revision",
                "Newest revision of the store",
                m.revision.clone(),
            );
            registry.register_collector(Box::new(Process));
        });
        measures
    }

    pub(super) fn revision(&self, revision: u64) {
        self.revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    pub(super) fn start<B>(&self, kinds: &Kinds, request: &Request<B>) -> Started {
        let about = About::of(kinds, request);
        let reads = matches!(about.verb, "get" | "list" | "watch");
        let request_kind = if reads { "readOnly" } else { "mutating" };
        let gauge = self.in_flight.get_or_create(&Mutating { request_kind });
        Started {
            held: Held::new(&gauge),
            about,
            at: Instant::now(),
        }
    }

    pub(super) fn end(&self, started: Started, response: Response<Body>) -> Response<Body> {
        let Started { about, at, held } = started;
        drop(held);
        let status = response.status();
        if about.verb == "watch" && status.is_success() {
            let watched = Watched {
                group: about.group.clone(),
                resource: about.resource.clone(),
            };
            let watch = Held::new(&self.watches.get_or_create(&watched));
            self.count(about, status.as_u16());
            return response.map(|body| {
                let held = move |frame| {
                    let _ = &watch;
                    frame
                };
                body.map_frame(held).boxed()
            });
        }
        if about.verb != "connect" {
            let seconds = at.elapsed().as_secs_f64();
            self.seconds.get_or_create(&about).observe(seconds);
        }
        self.count(about, status.as_u16());
        response
    }

    fn count(&self, about: About, code: u16) {
        let answered = Answered {
            verb: about.verb,
            group: about.group,
            resource: about.resource,
            subresource: about.subresource,
            code,
        };
        self.requests.get_or_create(&answered).inc();
    }
}

impl About {
    fn of<B>(kinds: &Kinds, request: &Request<B>) -> Self {
        let (method, path) = (request.method(), request.uri().path());
        let plain = |verb, resource: &str| Self {
            verb,
            group: String::new(),
            resource: resource.to_owned(),
            subresource: "",
        };
        let simple = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        let Some(parsed) = parse_path(path) else {
            let first = path.split('/').nth(1).unwrap_or_default();
            let known = [
                "api", "apis", "healthz", "livez", "metrics", "openapi", "readyz", "version",
            ];
            let known = known.into_iter().find(|known| *known == first);
            return plain(simple, known.unwrap_or("other"));
        };
        if let Some(review) = crate::reviews::find(&parsed.group, &parsed.version, &parsed.plural) {
            return Self {
                group: review.group.to_owned(),
                ..plain(simple, review.plural)
            };
        }
        let Some(kind) = kinds.find(&parsed.group, &parsed.version, &parsed.plural) else {
            return plain(simple, "other");
        };
        let known = ["status", "connect", "log", "tunnel", "token", "other"];
        let subresource = match parsed.subresource.as_str() {
            "" => "",
            asked => known
                .into_iter()
                .find(|known| *known == asked)
                .unwrap_or("other"),
        };
        let many = parsed.name.is_empty();
        let watches = || {
            let query = Query::parse(request.uri().query());
            query.is_ok_and(|query| query.flag("watch"))
        };
        let verb = match (simple, many) {
            _ if matches!(subresource, "connect" | "log" | "tunnel") => "connect",
            ("get", true) if watches() => "watch",
            ("get", true) => "list",
            ("delete", true) => "deletecollection",
            _ => simple,
        };
        Self {
            verb,
            group: kind.group.clone(),
            resource: kind.plural.clone(),
            subresource,
        }
    }
}

/// What the kernel knows of this process, read when it is asked for.
#[derive(Debug)]
struct Process;

/// Ticks of a second in `/proc`, on every architecture Linux runs on here.
const TICKS: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
            number.unwrap_or_default()
        };
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the name, which may hold anything, in parentheses: state is the third field.
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of the process",
                of("VmRSS:") * 1024,
            ),
            ("process_threads", "Threads of the process", of("Threads:")),
            (
                "process_open_fds",
                "Open descriptors of the process",
                i64::try_from(descriptors).unwrap_or_default(),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let seconds = ConstCounter::new(ticks / TICKS);
        let (name, help) = ("process_cpu_seconds", "Processor time the process has used");
        let metric = encoder.encode_descriptor(name, help, None, seconds.metric_type())?;
        seconds.encode(metric)
    }
}

//! What the server counts, in the form Prometheus reads.
//!
//! Owns the registry; a part that counts registers its families here at start and keeps clones of
//! them. Who may read the text and under which path is the HTTP part's. Counting is lock-free once
//! a label was seen; nothing here grows with objects: labels are names out of the program.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};

/// Everything counted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Of control loops.
    pub(crate) controllers: Controllers,
}

/// Which control loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Controller {
    pub(crate) controller: &'static str,
}

type Histograms = Family<Controller, Histogram, fn() -> Histogram>;

/// Of control loops.
#[derive(Clone)]
pub(crate) struct Controllers {
    pub(crate) activations: Family<Controller, Counter>,
    pub(crate) failures: Family<Controller, Counter>,
    pub(crate) retries: Family<Controller, Counter>,
    pub(crate) panics: Family<Controller, Counter>,
    pub(crate) depth: Family<Controller, Gauge>,
    pub(crate) activation_seconds: Histograms,
    pub(crate) queue_seconds: Histograms,
    /// 1 while this server runs the controllers.
    pub(crate) leading: Gauge,
}

/// From half a millisecond, doubled, to half a minute.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
        0.0005, 2.0, 17,
    ))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("boatyard");
        let controllers = Controllers {
            activations: Family::default(),
            failures: Family::default(),
            retries: Family::default(),
            panics: Family::default(),
            depth: Family::default(),
            activation_seconds: Family::new_with_constructor(seconds),
            queue_seconds: Family::new_with_constructor(seconds),
            leading: Gauge::default(),
        };
        let c = &controllers;
        for (name, help, family) in [
            (
                "controller_activations",
                "Activations of a controller",
                &c.activations,
            ),
            (
                "controller_failures",
                "Activations of a controller that failed",
                &c.failures,
            ),
            (
                "controller_retries",
                "Activations of a controller for a key that had failed before",
                &c.retries,
            ),
            (
                "controller_panics",
                "Activations of a controller that ended in a panic",
                &c.panics,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "controller_queue_depth",
            "Keys a controller could look at now",
            c.depth.clone(),
        );
        registry.register(
            "controller_activation_seconds",
            "How long activations of a controller took",
            c.activation_seconds.clone(),
        );
        registry.register(
            "controller_queue_seconds",
            "How long keys waited for a controller",
            c.queue_seconds.clone(),
        );
        registry.register(
            "controllers_leading",
            "Whether this server runs the controllers",
            c.leading.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            controllers,
        }
    }

    /// Lets a part of the server register what it counts.
    pub(crate) fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of it as text, in the OpenMetrics format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    //! The text a scraper reads.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_counted_and_what_others_register_is_in_the_text() {
        let metrics = Metrics::new();
        let label = Controller {
            controller: "scheduler",
        };
        metrics.controllers.activations.get_or_create(&label).inc();
        metrics
            .controllers
            .activation_seconds
            .get_or_create(&label)
            .observe(0.001);
        let requests: Counter = Counter::default();
        requests.inc_by(7);
        metrics.register(|registry| registry.register("requests", "Requests", requests));
        let text = metrics.text().unwrap();
        for line in [
            "boatyard_controller_activations_total{controller=\"scheduler\"} 1",
            "boatyard_controller_activation_seconds_count{controller=\"scheduler\"} 1",
            "boatyard_requests_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

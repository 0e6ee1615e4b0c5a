//! What flow control tells a scraper: read when asked for, so that requests pay nothing for it.

use super::{Flow, Level};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

impl fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flow").finish_non_exhaustive()
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Collector for Flow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let loads: Vec<_> = Level::ALL
            .iter()
            .filter(|level| **level != Level::Exempt)
            .map(|level| (level.name(), self.load(*level)))
            .collect();
        for (name, help, count) in [
            (
                "flow_executing",
                "Requests that run",
                (|load| load.executing) as fn(&super::Load) -> usize,
            ),
            ("flow_waiting", "Requests that wait", |load| load.waiting),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (level, load) in &loads {
                let gauge = ConstGauge::new(number(count(load)));
                gauge.encode(family.encode_family(&[("level", *level)])?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "flow_refused",
            "Requests told to come again later",
            None,
            MetricType::Counter,
        )?;
        for (level, load) in &loads {
            let counter = ConstCounter::new(load.refused);
            counter.encode(family.encode_family(&[("level", *level)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "flow_held",
            "What clients hold together: connections, watches, streams, bytes of bodies and of answers",
            None,
            MetricType::Gauge,
        )?;
        for (what, ledger) in [
            ("connections", &self.connections),
            ("watches", &self.watches),
            ("streams", &self.streams),
            ("body_bytes", &self.bodies),
            ("answer_bytes", &self.answers),
        ] {
            let gauge = ConstGauge::new(number(ledger.all()));
            gauge.encode(family.encode_family(&[("what", what)])?)?;
        }
        Ok(())
    }
}

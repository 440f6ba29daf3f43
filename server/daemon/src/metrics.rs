//! Metrics in the text format of Prometheus. A metric is registered as it is made, so none can be forgotten.

use prometheus::{HistogramOpts, Opts, TextEncoder, core::Collector};

pub use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Two metrics of one name: a fault of ours.
pub type MetricsError = prometheus::Error;

/// All metrics of a process. Labels are names of ours, never what somebody sent.
#[derive(Default)]
pub struct Registry(prometheus::Registry);

impl Registry {
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.keep(IntCounter::new(name, help)?)
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.keep(IntGauge::new(name, help)?)
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Durations, by these bounds in seconds.
    pub fn seconds(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, MetricsError> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec()))?)
    }

    /// The same, apart by labels.
    pub fn seconds_by(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels)?)
    }

    /// All of it, as text.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.gather()).unwrap_or_default()
    }

    fn keep<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, MetricsError> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_rendered_and_no_name_is_given_twice() {
        let registry = Registry::default();
        registry.counter("a_total", "What").unwrap().inc();
        registry.seconds("b_seconds", "How long", &[0.1, 1.0]).unwrap().observe(0.5);
        registry.gauges("c", "How many", &["of"]).unwrap().with_label_values(&["x"]).set(3);
        assert!(registry.gauge("a_total", "Something else").is_err());
        let text = registry.render();
        for line in ["a_total 1", "b_seconds_bucket{le=\"1\"} 1", "c{of=\"x\"} 3"] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
